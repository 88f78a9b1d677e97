"""What each part beyond the paper costs: time of an iteration and of its compilation.

    python -m experiments.benchmarks.levers               # 28x28x1, ipc 1 and 10

An iteration of the paper's method with two outer steps and one inner epoch between, on noise, and
the same with one setting changed.  Ratios are to the plain one.  The programs take turns, each in
processes of its own; no compilation cache is used.
"""

import dataclasses
import itertools
import multiprocessing
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Annotated, Any, NamedTuple, TypeVar

import jax

from experiments import command
from experiments.benchmarks.cases import SHAPES
from experiments.benchmarks.compile_time import timed_compilation
from experiments.benchmarks.worker_gm_jax import noise_set, peak_bytes
from experiments.command import SOME
from gm_jax.checks import Count
from gm_jax.config import Config
from gm_jax.core import loop
from gm_jax.core.method import Variant, unchanged

MODULE = "experiments.benchmarks.levers"

CALLS = 5
"""Of each program, once it is compiled."""

LEVERS: dict[str, dict[str, Any]] = {
    "plain": {},
    "multi-formation of factor 2": {"factor": 2},
    "multi-formation of factor 3": {"factor": 3},
    "DSA's augmentation": {"augment": "dsa"},
    "IDC's augmentation": {"augment": "idc"},
    "IDC's augmentation, cutmix": {"augment": "idc", "cutmix": 0.5},
    "640 real images between steps": {"inner_data": "real", "inner_images": 640},
    "warm-up": {"scheme": "warm-up"},
    "l1 of convolutions": {"distance": "l1", "counted": "convolutions"},
    "orthogonal": {"distance": "orthogonal"},
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to measure."""

    ipc: Annotated[tuple[Count, ...], SOME] = (1, 10)
    """Synthetic images of each class."""
    batch_real: Count = 64
    """Real images of each class."""
    repeats: Count = 3
    """How often each program is compiled; it runs five times as often."""


class Cost(NamedTuple):
    """Of one program.

    Attributes:
        compiled: seconds to compile.
        ran: seconds of an iteration.
        temporary: MiB, as the compiler counts them.
        peak: MB of 10^6 bytes, of the process with its compiler; of the device, if that is no CPU.
    """

    compiled: float
    ran: float
    temporary: float
    peak: float


Result = TypeVar("Result")


def in_process(function: Callable[..., Result], *arguments: Any) -> Result:
    """What a function of a module returns, called in a new process that has no compilation cache.

    Args:
        function: it and its arguments are pickled.
        arguments: of the call.
    """
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn, initializer=_without_cache) as pool:
        return pool.submit(function, *arguments).result()


def _without_cache() -> None:
    jax.config.update("jax_enable_compilation_cache", False)


def measure(config: Config, variant: Variant = unchanged) -> Cost:
    """Compiles an iteration and runs it five times: the fastest one counts."""
    dataset = noise_set(SHAPES["mnist"], 10, config.batch_real)
    compiled, step, sets = timed_compilation(config, dataset, variant)
    times = [time.perf_counter()]
    for _, state, _ in loop.iterations(step, sets, dataset.train, CALLS):
        jax.block_until_ready(state)
        times.append(time.perf_counter())
    ran = min(after - before for before, after in itertools.pairwise(times))
    return Cost(compiled, ran, loop.memory(step).temporary / 2**20, peak_bytes() / 1e6)


def compare(ipc: int, rows: Mapping[str, tuple[Config, Variant]], repeats: int) -> None:
    """Measures all rows in turn, and prints the lowest of each number, and ratios to the first row.

    What disturbs a program only slows it, so its fastest call and compilation are compared.
    """
    turns = [[in_process(measure, *row) for row in rows.values()] for _ in range(repeats)]
    lowest = [Cost(*map(min, zip(*of))) for of in zip(*turns)]
    for name, cost in zip(rows, lowest):
        ran, compiled = cost.ran / lowest[0].ran, cost.compiled / lowest[0].compiled
        shown = f"{cost.ran:.2f} | {ran:.2f} | {cost.compiled:.1f} | {compiled:.2f}"
        memory = f"{cost.temporary:.0f} | {cost.peak:.0f}"
        print(f"| {ipc} | {name} | {shown} | {memory} |", flush=True)


def print_head() -> None:
    """Device, version, and the head of the table."""
    print(f"{in_process(device_kind)}, jax {jax.__version__}")
    names = "iteration, s | ratio | compilation, s | ratio | temporary memory, MiB | peak, MB"
    print(f"| ipc | | {names} |\n|---|---|---|---|---|---|---|---|", flush=True)


def device_kind() -> str:
    """The device's name; asked in a process of its own, which leaves an accelerator's memory."""
    return jax.local_devices()[0].device_kind


def work(settings: Settings, _: str) -> None:
    """Measures, prints a Markdown table."""
    print_head()
    for ipc in settings.ipc:
        plain = Config(
            ipc=ipc,
            step_rule="fixed",
            outer_steps=2,
            inner_epochs=1,
            batch_real=settings.batch_real,
        )
        configs = {name: dataclasses.replace(plain, **of) for name, of in LEVERS.items()}
        rows = {name: (config, unchanged) for name, config in configs.items()}
        compare(ipc, rows, settings.repeats)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    return command.main(MODULE, __doc__, Settings, work, arguments)


if __name__ == "__main__":
    sys.exit(main())
