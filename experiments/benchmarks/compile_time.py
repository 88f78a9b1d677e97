"""Compile time of an iteration, by the number of classes.

    python -m experiments.benchmarks.compile_time        # 10 and 100 classes, ipc 1 and 10

Seconds to trace, lower and compile an iteration with the paper's fixed steps, on noise of 32x32x3
with 20 real images of each class (more of them lengthen a loop, not the program); the programs take
turns.  No compilation cache is used.
"""

import dataclasses
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Annotated

import jax

from experiments import command
from experiments.benchmarks.cases import SHAPES
from experiments.benchmarks.worker_gm_jax import noise_set
from experiments.command import SOME
from gm_jax.build import build_method, start_sets
from gm_jax.checks import Count
from gm_jax.config import Config
from gm_jax.core.loop import Sets, compile_iteration
from gm_jax.core.method import Variant, unchanged
from gm_jax.data.images import Dataset

MODULE = "experiments.benchmarks.compile_time"

REAL_IMAGES = 20
"""Of each class."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to compile."""

    classes: Annotated[tuple[Count, ...], SOME] = (10, 100)
    """Numbers of classes."""
    ipc: Annotated[tuple[Count, ...], SOME] = (1, 10)
    """Synthetic images of each class."""
    repeats: Count = 3
    """How often each program is compiled."""


def timed_compilation(
    config: Config, dataset: Dataset, variant: Variant = unchanged
) -> tuple[float, jax.stages.Compiled, Sets]:
    """Seconds until the program is ready, the program, and what it starts from."""
    jax.clear_caches()
    sets = start_sets(config, dataset, variant)
    start = time.perf_counter()
    method_of = lambda swept: variant(build_method(config, dataset, swept))
    step = compile_iteration(method_of, sets, dataset.train)
    return time.perf_counter() - start, step, sets


def work(settings: Settings, _: str) -> None:
    """Compiles, prints a Markdown table."""
    print(f"{jax.local_devices()[0].device_kind}, jax {jax.__version__}")
    print("| ipc | classes | seconds (lowest to highest) |\n|---|---|---|", flush=True)
    datasets = [noise_set(SHAPES["cifar10"], c, REAL_IMAGES) for c in settings.classes]
    for ipc in settings.ipc:
        config = Config(ipc=ipc, step_rule="fixed")
        turns = [
            [timed_compilation(config, dataset)[0] for dataset in datasets]
            for _ in range(settings.repeats)
        ]
        for classes, seconds in zip(settings.classes, zip(*turns)):
            print(f"| {ipc} | {classes} | {spread(seconds)} |", flush=True)


def spread(seconds: Sequence[float]) -> str:
    """The median, and the lowest to the highest."""
    return f"{statistics.median(seconds):.1f} ({min(seconds):.1f} to {max(seconds):.1f})"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    return command.main(MODULE, __doc__, Settings, work, arguments)


if __name__ == "__main__":
    jax.config.update("jax_enable_compilation_cache", False)
    sys.exit(main())
