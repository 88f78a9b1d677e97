"""How the time and memory of an iteration grow with each quantity, beside the work.

    python -m experiments.benchmarks.growth        # ten minutes on two cores

An iteration of two outer steps with two inner epochs between, ConvNet of three blocks, one channel,
fixed step rule.  One quantity grows at a time, the others stay as in `Size`.  The work is the FLOPs
of the direct algorithm (formulas in `cases.py`); an exponent p says that something grows as
quantity^p, by least squares in the logarithms.  Memory is the compiler's own count: data, images
and what exists only while an iteration runs.
"""

import dataclasses
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, get_args

import jax
import numpy as np

from experiments import command, figures
from experiments.benchmarks.cases import convnet_flops
from experiments.benchmarks.chunks import Program, take_turns
from experiments.benchmarks.compile_time import timed_compilation
from experiments.benchmarks.worker_gm_jax import noise_set
from experiments.command import SOME
from gm_jax.checks import MOST, Count
from gm_jax.config import Config
from gm_jax.core import loop
from gm_jax.storage import files

MODULE = "experiments.benchmarks.growth"

OUTER_STEPS, INNER_EPOCHS, BATCH_REAL, DEPTH = 2, 2, 32, 3


@dataclasses.dataclass(frozen=True)
class Size:
    """What an iteration works on."""

    ipc: int = 10
    """Synthetic images of each class."""
    classes: int = 10
    """Classes."""
    side: int = 28
    """Height and width of an image; 28 is padded to 32."""
    width: int = 64
    """Channels of each convolution."""
    sets: int = 1
    """Sets in the run."""


Quantity = Literal["ipc", "classes", "side", "width", "sets"]
VALUES: dict[str, tuple[int, ...]] = {
    "ipc": (1, 3, 10, 30, 100),
    "classes": (10, 30, 100, 200),
    "side": (28, 32, 64, 96, 128),
    "width": (32, 64, 128, 256),
    "sets": (1, 2, 4, 8, 16, 32),
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to measure."""

    quantities: Annotated[tuple[Quantity, ...], SOME] = get_args(Quantity)
    """What grows, one after another."""
    repeats: Count = 3
    """Timed calls of each program."""
    out: Path = Path("growth.png")
    """Picture to write."""


class Point(NamedTuple):
    """One size, measured.

    Attributes:
        value: of the quantity that grows.
        flops: the work.
        seconds: of an iteration of all sets, the fastest call.
        memory: bytes.
        compile_s: seconds to trace, lower and compile.
    """

    value: int
    flops: int
    seconds: float
    memory: int
    compile_s: float


def flops(size: Size) -> int:
    """The work of an iteration of all sets, as `cases.py` counts it."""
    layers = convnet_flops((size.side, size.side, 1), size.classes, size.width, DEPTH)
    forward, gradient = sum(layers), 3 * sum(layers) - layers[0]
    images = size.classes * size.ipc
    match = size.classes * BATCH_REAL * gradient + images * (gradient + 6 * forward)
    epochs = (OUTER_STEPS - 1) * INNER_EPOCHS * images * gradient
    return size.sets * (OUTER_STEPS * match + epochs)


def exponent(points: Sequence[Point], field: str) -> float:
    """p of the power law `field ~ value^p` that fits best."""
    values = np.log([point.value for point in points])
    found = np.log([getattr(point, field) for point in points])
    return float(np.polyfit(values, found, 1)[0])


def measure(size: Size, value: int, repeats: int) -> Point:
    """Compiles and runs an iteration of this size."""
    config = Config(
        ipc=size.ipc,
        width=size.width,
        depth=DEPTH,
        seeds=size.sets,
        step_rule="fixed",
        outer_steps=OUTER_STEPS,
        inner_epochs=INNER_EPOCHS,
        batch_real=BATCH_REAL,
    )
    data = noise_set((size.side, size.side, 1), size.classes, BATCH_REAL)
    compile_s, step, sets = timed_compilation(config, data)
    iterations = loop.iterations(step, sets, data.train, until=MOST)
    needs = loop.memory(step)
    program = Program(lambda: next(iterations)[1:], needs.temporary)
    (seconds,) = take_turns([program], repeats)
    return Point(value, flops(size), min(seconds), sum(needs), compile_s)


def rows(settings: Settings) -> Iterator[tuple[str, Point]]:
    """A point for each value of each quantity."""
    for quantity in settings.quantities:
        for value in VALUES[quantity]:
            size = dataclasses.replace(Size(), **{quantity: value})
            yield quantity, measure(size, value, settings.repeats)


def work(settings: Settings, _: str) -> None:
    """Measures; prints a table of all sizes and one of exponents, and draws both."""
    command.check_writable(settings.out)
    print(f"{jax.local_devices()[0].device_kind}, jax {jax.__version__}")
    print("| quantity | value | GFLOP | iteration, s | GFLOP/s | memory, MiB | compile, s |")
    print("|---|---|---|---|---|---|---|", flush=True)
    found: dict[str, list[Point]] = {}
    for quantity, point in rows(settings):
        found.setdefault(quantity, []).append(point)
        print(
            f"| {quantity} | {point.value} | {point.flops / 1e9:.0f} | {point.seconds:#.3g} | "
            f"{point.flops / point.seconds / 1e9:.0f} | {point.memory / 2**20:.0f} | "
            f"{point.compile_s:.1f} |",
            flush=True,
        )
    print("\n| exponent of | work | seconds | memory | compilation |\n|---|---|---|---|---|")
    for quantity, points in found.items():
        fits = [exponent(points, field) for field in Point._fields[1:]]
        print(f"| {quantity} | {' | '.join(f'{p:.2f}' for p in fits)} |")
    with files.atomic(settings.out) as draft:
        draw(draft, found)


def draw(path: Path, found: dict[str, list[Point]]) -> None:
    """Seconds against the work, and memory against each quantity over its smallest value."""
    of_work = {name: [(p.flops / 1e9, p.seconds) for p in points] for name, points in found.items()}
    of_size = {
        name: [(p.value / points[0].value, p.memory / 2**20) for p in points]
        for name, points in found.items()
    }
    figures.log_lines(
        path,
        [
            ("GFLOP of an iteration", "seconds", of_work),
            ("quantity, times its smallest value", "memory, MiB", of_size),
        ],
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    return command.main(MODULE, __doc__, Settings, work, arguments)


if __name__ == "__main__":
    jax.config.update("jax_enable_compilation_cache", False)
    sys.exit(main())
