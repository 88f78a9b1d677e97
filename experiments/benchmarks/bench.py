"""Time and memory of each part of the method, beside a PyTorch port: the same work, in one run.

    python -m experiments.benchmarks.bench            # ConvNet, every case: 65 minutes on two cores
    python -m experiments.benchmarks.bench --quick    # the smallest ones: three minutes

A case (`cases.py`) runs in three fresh processes: one that imports JAX, and two that import
PyTorch, of which one works as the method's authors do and one is tuned (`torch_tuned.py`, on a GPU
`torch_graphs.py`).  Each prepares the case and calls it once without a clock; then they take turns,
one timed call each, never two at once.  On an accelerator the three prepare all cases first.
Inputs are noise of the same shapes (speed does not depend on pixel values) and on the device before
the clock starts.  Both ways of the port are tested against the golden vectors first.  Run nothing
else meanwhile: a busy machine slows the programs by different factors.  So does the host of a
virtual machine where it puts two processors on one core for a while, which nothing shows; so the
fastest calls are compared, and short ones are repeated until a case's have taken 20 seconds.

An iteration is cut to 2 outer steps at most, because outer steps are all alike: `2 of 10` is two
image updates with the paper's inner epochs between them, where a full iteration has ten, and nine
times the inner epochs.  Our iteration draws new real images in each outer step, the port's is
given them.  Likewise 20 epochs stand for an evaluation's hundreds.

Memory peaks are of the process on a CPU; elsewhere of a case on the device, by the compiler's
analysis of our program and by PyTorch's allocator.  The share of the matrix rate is a case's FLOPs
(formulas in `cases.py`) by its fastest call, over the FLOP/s of a large float32 matrix product at
the default precision: measured before and after each case (the higher one counts; on an accelerator
after it), in another process, so that its matrices do not count as the case's memory.
"""

import dataclasses
import itertools
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

from experiments import command
from experiments.benchmarks.cases import (
    EVALUATION,
    ITERATION,
    PARTS,
    REAL,
    Case,
    NetworkName,
    PartName,
    ShapeName,
    case_name,
    flops,
)
from experiments.benchmarks.report import LEGEND, Measured, Result, machine, progress, table
from experiments.benchmarks.worker import Ask, WorkerError, start
from experiments.command import SOME
from gm_jax.checks import Count
from gm_jax.cli.terminal import say
from gm_jax.errors import UserError
from gm_jax.published_settings import paper_steps
from gm_jax.storage.files import write_json

MODULE = "experiments.benchmarks.bench"

OURS = "experiments.benchmarks.worker_gm_jax"
AUTHORS = "experiments.benchmarks.worker_torch"
TUNED = "experiments.benchmarks.worker_torch_tuned"

KEEP_PAGES = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "-1"}
"""For ours and the tuned one: glibc takes memory from one heap, which never shrinks.  A part that
is called by itself pays for fresh pages in every call, and as a part of a run does not."""

CPU_ALONE = {"JAX_PLATFORMS": "cpu"}
"""For ours on a CPU: where libtpu is installed, looking for a TPU takes over 100 MB."""

MOST_ERROR = 1e-9
"""The largest relative error of the port on the golden vectors that is allowed."""

MOST_OUTER_STEPS = 2
"""Outer steps of an iteration by default, at most."""

SHORT_CASE, MOST_TURNS = 20.0, 30
"""Seconds that the calls of a case take together, unless each program has made so many."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to measure."""

    networks: Annotated[tuple[NetworkName, ...], SOME] = ("convnet",)
    """Networks."""
    shapes: Annotated[tuple[ShapeName, ...], SOME] = ("mnist", "cifar10")
    """Image shapes: mnist (28x28x1), cifar10 (32x32x3)."""
    ipc: Annotated[tuple[Count, ...], SOME] = (1, 10, 50)
    """Synthetic images of each class."""
    parts: Annotated[tuple[PartName, ...], SOME] = PARTS  # type: ignore[assignment]
    """Parts; their names have blanks, so quote them."""
    batch_real: Count = 256
    """Real images of each class."""
    repeats: Count = 5
    """Timed calls of each program in a case, at least: short ones are made until those of all three
    have taken 20 seconds, or of each there are 30."""
    outer_steps: Count | None = None
    """Outer steps of an iteration. Default: the paper's (1 at ipc 1, 10 at 10, 50 at 50), but at
    most 2, because they are all alike; the inner epochs between them are the paper's."""
    epochs: Count = 20
    """Epochs of an evaluation, all alike; the paper's are 300 and 1000."""
    out: Path = Path("bench.json")
    """File for every single timing, written after each case."""
    quick: bool = False
    """Three minutes: sets --shapes mnist --ipc 1 --batch-real 32 --repeats 3 --epochs 5, and tests
    the ports on fewer of the golden vectors."""


# --- settings -------------------------------------------------------------------------------------


def resolve(settings: Settings) -> Settings:
    """The settings with all that `--quick` sets; `UserError` if `out` cannot be written."""
    command.check_writable(settings.out)
    if not settings.quick:
        return settings
    return dataclasses.replace(
        settings, shapes=("mnist",), ipc=(1,), batch_real=32, repeats=3, epochs=5
    )


def list_cases(settings: Settings) -> Iterator[Case]:
    """Every case; the real gradients, which do not depend on ipc, once a network and shape."""
    for network, shape in itertools.product(settings.networks, settings.shapes):
        if REAL in settings.parts:
            yield Case(REAL, shape, batch_real=settings.batch_real, network=network)
        for ipc, part in itertools.product(settings.ipc, PARTS[1:]):
            if part in settings.parts:
                yield dataclasses.replace(_case(settings, shape, ipc, part), network=network)


def _case(settings: Settings, shape: str, ipc: int, part: str) -> Case:
    if part == EVALUATION:
        return Case(part, shape, ipc, epochs=settings.epochs)
    if part != ITERATION:
        return Case(part, shape, ipc)
    paper, inner = paper_steps(ipc)
    outer = settings.outer_steps or min(paper, MOST_OUTER_STEPS)
    return Case(part, shape, ipc, settings.batch_real, outer, paper, inner)


# --- measuring ------------------------------------------------------------------------------------


def check_ports(quick: bool) -> tuple[float, dict[str, Any]]:
    """The ports' largest error on the golden vectors, and the versions of their workers.

    Raises:
        WorkerError: the error is too large.
    """
    worst = 0.0
    for module in (AUTHORS, TUNED):
        with start(module, "checking the port") as port:
            errors, about = port("check grey" if quick else "check"), port("about")
        for name, error in errors.items():
            if not error < MOST_ERROR:
                raise WorkerError(f"{module} differs from the golden {name} by {error:.0e}")
        worst = max(worst, *errors.values())
    return worst, about


def measure(case: Case, repeats: int, rate_before: float, rate: Ask) -> tuple[Result, float]:
    """The programs on one case, in fresh processes, taking turns; and the matrix rate after it.

    Args:
        case: what is measured.
        repeats: timed calls of each program, at least.
        rate_before: the matrix rate, FLOP/s, just before.
        rate: the process that measures it.
    """
    name = case_name(case)
    with (
        start(OURS, name, {**os.environ, **CPU_ALONE, **KEEP_PAGES}) as ours,
        start(AUTHORS, name) as authors,
        start(TUNED, name, {**os.environ, **KEEP_PAGES}) as tuned,
    ):
        programs = ours, authors, tuned
        prepared = [program("prepare", dataclasses.asdict(case)) for program in programs]
        turns = take_turns(programs, name, repeats)
        memories = [program("memory") for program in programs]
    rate_after = rate("matrix rate")
    by_ours, by_authors, by_tuned = (
        Measured(seconds, **memory) for seconds, memory in zip(turns, memories)
    )
    higher, compile_s = max(rate_before, rate_after), prepared[0]["compile_s"]
    result = Result(case, by_ours, by_authors, by_tuned, compile_s, flops(case), higher)
    return result, rate_after


def take_turns(programs: Sequence[Ask], name: str, repeats: int) -> list[list[float]]:
    """Seconds of each program's calls of a case, one call each in turn.

    More than `repeats` where they are short: a machine may be slow for seconds on end.
    """
    turns: list[list[float]] = []
    while len(turns) < repeats or (len(turns) < MOST_TURNS and sum(map(sum, turns)) < SHORT_CASE):
        turns.append([program("time", name) for program in programs])
    return [list(seconds) for seconds in zip(*turns, strict=True)]


def measure_together(cases: Sequence[Case], repeats: int, rate: Ask) -> Iterator[Result]:
    """The programs on all cases, each in one process, prepared before anything is timed.

    For an accelerator, which is often lent by the minute: starting and compiling take most of it.
    Peaks are those that a program tells of each case, or else its process's.
    """
    with (
        ThreadPoolExecutor(3) as pool,  # left last: who waits for a worker is freed by its end
        start(OURS, "all cases") as ours,
        start(AUTHORS, "all cases") as authors,
        start(TUNED, "all cases") as tuned,
    ):
        programs = ours, authors, tuned
        every = lambda program: [program("prepare", dataclasses.asdict(case)) for case in cases]
        prepared = list(pool.map(every, programs))
        memories = [program("memory") for program in programs]
        for case, infos in zip(cases, zip(*prepared)):
            turns = take_turns(programs, case_name(case), repeats)
            by_ours, by_authors, by_tuned = (
                Measured(seconds, memory["imports_bytes"], {**memory, **info}["peak_bytes"])
                for seconds, memory, info in zip(turns, memories, infos)
            )
            compile_s, latest = infos[0]["compile_s"], rate("matrix rate")
            yield Result(case, by_ours, by_authors, by_tuned, compile_s, flops(case), latest)


def measure_all(settings: Settings, platform: str, rate: Ask) -> Iterator[Result]:
    """Every case: in processes of its own on a CPU, else all in one process of each program."""
    if platform != "cpu":
        yield from measure_together(list(list_cases(settings)), settings.repeats, rate)
        return
    latest = rate("matrix rate")
    for case in list_cases(settings):
        result, latest = measure(case, settings.repeats, latest, rate)
        yield result


# --- the command ----------------------------------------------------------------------------------


def save(settings: Settings, about: dict[str, Any], results: Sequence[Result]) -> None:
    """Everything measured so far, written atomically."""
    held = dataclasses.asdict(settings)
    del held["out"]  # where the file was first written says nothing about what was measured
    found = [dataclasses.asdict(result) for result in results]
    try:
        write_json(settings.out, {"settings": held, "machine": about, "results": found})
    except OSError as error:
        raise UserError(
            f"--out {settings.out} cannot be written: {error.strerror or error}"
        ) from error


def run(settings: Settings, results: list[Result]) -> None:
    """Measures every case; `results` grows as they finish."""
    load = os.getloadavg()[0]
    if load > (os.cpu_count() or 1) / 2:
        say(f"bench: the machine is busy (load {load:.1f}): ratios may be wrong")
    print("checking the ports against the golden vectors", flush=True)
    worst, torch_about = check_ports(settings.quick)
    print(f"largest relative error {worst:.0e}", flush=True)
    with start(OURS, "matrix rate") as rate:
        about = machine(rate("about"), torch_about) | {"load_at_start": load}
        for result in measure_all(settings, about["jax"]["platform"], rate):
            results.append(result)
            print(progress(result), flush=True)
            save(settings, about, results)


def work(settings: Settings, _: str) -> None:
    """Measures, and prints the table of all cases that were finished, even if one failed."""
    settings = resolve(settings)
    results: list[Result] = []
    try:
        run(settings, results)
    except WorkerError as error:
        raise command.FailedError(str(error)) from error
    finally:
        if results:
            print(f"\n{table(results)}\n\n{LEGEND}\nEvery timing: {settings.out}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    return command.main(MODULE, __doc__, Settings, work, arguments)


if __name__ == "__main__":
    sys.exit(main())
