"""Time and memory of each part of the method, beside a PyTorch port: the same work, in one run.

    python -m experiments.bench            # every case: an hour or two on two cores
    python -m experiments.bench --quick    # the smallest ones: two minutes

A case (`bench_cases.py`) runs in two fresh processes, one that imports JAX and one that imports
PyTorch.  Each prepares the case, calls it once without a clock, and then they take turns, a timed
call each, never both at once.  Inputs are noise of the same shapes (speed does not depend on what
the pixels show) and on the device before the clock starts.  The port is held to the golden vectors
first.  Nothing else may run meanwhile: a busy machine slows the two programs by unlike factors.

An iteration is cut to 2 outer steps at most, because outer steps are all alike: `2 of 10` is two
image updates and the paper's inner epochs between them, where the whole has ten and nine times the
inner epochs.  Our iteration draws its real images anew in each outer step, the port's is given
them.  Likewise 20 epochs stand for an evaluation's hundreds.

Peaks are of the whole process on a CPU, of the device's memory elsewhere.  The share of the matrix
rate is a case's FLOPs (formulas in `bench_cases.py`) by its median seconds, over the FLOP/s of a
large float32 matrix product: measured before and after each case (the higher one counts), in a
process of its own lest its matrices count as the case's memory.
"""

import dataclasses
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import tyro

from experiments.bench_cases import (
    EVALUATION,
    ITERATION,
    PARTS,
    REAL,
    SHAPES,
    Case,
    case_name,
    flops,
)
from experiments.bench_report import LEGEND, Measured, Result, machine, progress, table
from experiments.bench_worker import Ask, WorkerError, started
from gm_jax.core.step_rules import paper_steps
from gm_jax.errors import UserError
from gm_jax.storage.run_folder import write_json

OURS, THEIRS = "experiments.bench_gm_jax", "experiments.bench_torch"

MOST_ERROR = 1e-9
"""The port's largest relative error on the golden vectors that is let pass."""

MOST_OUTER_STEPS = 2
"""Of an iteration, unless more are asked for."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to measure."""

    shapes: tuple[str, ...] = tuple(SHAPES)
    """Image shapes: mnist (28x28x1), cifar10 (32x32x3)."""
    ipc: tuple[int, ...] = (1, 10, 50)
    """Synthetic images a class."""
    parts: tuple[str, ...] = PARTS
    """Which parts; their names have blanks, so put them in quotes."""
    batch_real: int = 256
    """Real images a class."""
    repeats: int = 5
    """Timed calls of each program a case."""
    outer_steps: int | None = None
    """Outer steps of an iteration. Default: the paper's (1 at ipc 1, 10 at 10, 50 at 50), but at
    most 2, because they are all alike; the inner epochs between them are the paper's."""
    epochs: int = 20
    """Epochs of an evaluation, all alike; the paper's are 300 and 1000."""
    out: Path = Path("bench.json")
    """File for every single timing, written after each case."""
    quick: bool = False
    """Two minutes at most: sets --shapes mnist --ipc 1 --batch-real 32 --repeats 3 --epochs 5, and
    checks the port on the golden vectors of one-channel images alone."""


# --- settings -------------------------------------------------------------------------------------


def checked(settings: Settings) -> Settings:
    """The settings as they are meant, or `UserError` for the first that is not allowed."""
    if settings.quick:
        settings = dataclasses.replace(
            settings, shapes=("mnist",), ipc=(1,), batch_real=32, repeats=3, epochs=5
        )
    for flag, named, known in (
        ("shapes", settings.shapes, SHAPES),
        ("parts", settings.parts, PARTS),
    ):
        for name in named:
            if name not in known:
                raise UserError(f"--{flag} {name!r} is unknown: choose {', '.join(known)}")
    numbers = {"ipc": settings.ipc} | {
        field.replace("_", "-"): (getattr(settings, field),)
        for field in ("batch_real", "repeats", "outer_steps", "epochs")
    }
    for flag, values in numbers.items():
        for value in values:
            if value is not None and not 1 <= value <= 10**6:
                raise UserError(f"--{flag} {value}: must be 1 to {10**6}")
    for flag in ("shapes", "ipc", "parts"):
        if not getattr(settings, flag):
            raise UserError(f"--{flag} is empty: name one at least")
    folder = settings.out.parent
    if settings.out.is_dir() or not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise UserError(f"--out {settings.out} cannot be written: name a file in a folder of yours")
    return settings


def cases(settings: Settings) -> Iterator[Case]:
    """Every case; the real gradients, which no ipc changes, once a shape."""
    for shape in settings.shapes:
        if REAL in settings.parts:
            yield Case(REAL, shape, batch_real=settings.batch_real)
        for ipc in settings.ipc:
            for part in PARTS[1:]:
                if part in settings.parts:
                    yield _case(settings, shape, ipc, part)


def _case(settings: Settings, shape: str, ipc: int, part: str) -> Case:
    if part == EVALUATION:
        return Case(part, shape, ipc, epochs=settings.epochs)
    if part != ITERATION:
        return Case(part, shape, ipc)
    paper, inner = paper_steps(ipc)
    outer = settings.outer_steps or min(paper, MOST_OUTER_STEPS)
    return Case(part, shape, ipc, settings.batch_real, outer, paper, inner)


# --- measuring ------------------------------------------------------------------------------------


def check_port(quick: bool) -> tuple[float, dict[str, Any]]:
    """The port's largest error on the golden vectors, if it is small enough; and what ran."""
    with started(THEIRS, "checking the port") as theirs:
        errors, about = theirs("check grey" if quick else "check"), theirs("about")
    for name, error in errors.items():
        if not error < MOST_ERROR:
            raise WorkerError(f"the port is off the golden vectors of {name} by {error:.0e}")
    return max(errors.values()), about


def measure(case: Case, repeats: int, rate_before: float, rate: Ask) -> tuple[Result, float]:
    """Both programs on one case, in fresh processes, taking turns; and the matrix rate after it.

    Args:
        case, repeats: what, and how many timed calls of each program.
        rate_before: the matrix rate, FLOP/s, just before.
        rate: asks the process that measures it.
    """
    name = case_name(case)
    with started(OURS, name) as ours, started(THEIRS, name) as theirs:
        compile_s = ours("prepare", dataclasses.asdict(case))["compile_s"]
        theirs("prepare", dataclasses.asdict(case))
        turns = [(ours("time"), theirs("time")) for _ in range(repeats)]
        memories = [program("memory") for program in (ours, theirs)]
    rate_after = rate("matrix rate")
    measured = [
        Measured(list(seconds), **memory)
        for seconds, memory in zip(zip(*turns, strict=True), memories, strict=True)
    ]
    higher = max(rate_before, rate_after)
    return Result(case, *measured, compile_s, flops(case), higher), rate_after


# --- the command ----------------------------------------------------------------------------------


def save(settings: Settings, about: dict[str, Any], results: Sequence[Result]) -> None:
    """Everything measured so far, in one step that cannot be seen half done."""
    said = dataclasses.asdict(settings) | {"out": str(settings.out)}
    found = [dataclasses.asdict(result) for result in results]
    try:
        write_json(settings.out, {"settings": said, "machine": about, "results": found})
    except OSError as error:
        raise UserError(f"--out {settings.out} cannot be written: {error.strerror}") from error


def run(settings: Settings, results: list[Result]) -> None:
    """Measures every case; `results` grows as they finish."""
    load = os.getloadavg()[0]
    if load > os.cpu_count() / 2:
        print(f"bench: the machine is busy (load {load:.1f}): ratios may be off", file=sys.stderr)
    print("checking the port against the golden vectors", flush=True)
    worst, torch_about = check_port(settings.quick)
    print(f"within {worst:.0e} of them", flush=True)
    with started(OURS, "matrix rate") as rate:
        about = machine(rate("about"), torch_about) | {"load_at_start": load}
        latest = rate("matrix rate")
        for case in cases(settings):
            result, latest = measure(case, settings.repeats, latest, rate)
            results.append(result)
            print(progress(result), flush=True)
            save(settings, about, results)


def parse(arguments: Sequence[str] | None) -> Settings:
    """The settings that the arguments stand for."""
    return tyro.cli(
        Settings,
        prog="python -m experiments.bench",
        description=__doc__,
        args=arguments,
        config=(tyro.conf.FlagCreatePairsOff,),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints the table; returns the exit status."""
    parsed = parse(arguments)
    results: list[Result] = []
    status = 0
    try:
        run(checked(parsed), results)
    except UserError as error:
        print(f"bench: {error}", file=sys.stderr)
        status = 2
    except WorkerError as error:
        print(f"bench: {error}", file=sys.stderr)
        status = 1
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        status = 130
    if results:
        print(f"\n{table(results)}\n\n{LEGEND}\nEvery timing: {parsed.out}")
    return status


if __name__ == "__main__":
    sys.exit(main())
