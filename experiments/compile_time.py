"""How long an iteration takes to compile, by the number of classes.

    python -m experiments.compile_time                       # 10 and 100 classes, ipc 1 and 10

Seconds to trace, lower and compile an iteration with the paper's fixed steps, on noise of 32x32x3,
20 real images a class (of more, the loop is longer, not the program); programs take turns.
"""

import dataclasses
import statistics
import sys
import time
from collections.abc import Sequence

import jax
import numpy as np
import tyro

from experiments.bench_cases import SHAPES
from experiments.bench_gm_jax import noise_set
from gm_jax.config import MOST, Config, build_method, start_runs
from gm_jax.core.loop import compile_iteration
from gm_jax.data.images import Dataset

REAL_IMAGES = 20
"""Of a class."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to compile."""

    classes: tuple[int, ...] = (10, 100)
    """Numbers of classes."""
    ipc: tuple[int, ...] = (1, 10)
    """Synthetic images a class."""
    repeats: int = 3
    """Times each is compiled."""


def compile_seconds(config: Config, dataset: Dataset) -> float:
    """Seconds until the program is ready."""
    jax.clear_caches()
    runs = start_runs(config, dataset)
    start = time.perf_counter()
    compile_iteration(lambda rates: build_method(config, dataset, rates), runs, dataset.train, 1)
    return time.perf_counter() - start


def main(arguments: Sequence[str] | None = None) -> int:
    """Compiles, prints a Markdown table; returns the exit status."""
    settings = tyro.cli(
        Settings, prog="python -m experiments.compile_time", description=__doc__, args=arguments
    )
    for flag in ("classes", "ipc", "repeats"):
        values = np.atleast_1d(getattr(settings, flag))
        if not values.size or values.min() < 1 or values.max() > MOST:
            said = " ".join(map(str, values))
            print(f"compile_time: --{flag} {said}: must be 1 to {MOST}", file=sys.stderr)
            return 2
    print(f"{jax.local_devices()[0].device_kind}, jax {jax.__version__}")
    print("| ipc | classes | seconds (lowest to highest) |\n|---|---|---|", flush=True)
    sets = {c: noise_set(SHAPES["cifar10"], c, REAL_IMAGES) for c in settings.classes}
    for ipc in settings.ipc:
        config = Config(ipc=ipc, step_rule="fixed")
        taken = [
            [compile_seconds(config, sets[classes]) for classes in settings.classes]
            for _ in range(settings.repeats)
        ]
        for classes, seconds in zip(settings.classes, zip(*taken)):
            spread = f"({min(seconds):.1f} to {max(seconds):.1f})"
            print(f"| {ipc} | {classes} | {statistics.median(seconds):.1f} {spread} |", flush=True)
    return 0


if __name__ == "__main__":
    jax.config.update("jax_enable_compilation_cache", False)  # else nothing is compiled
    sys.exit(main())
