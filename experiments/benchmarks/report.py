"""The results of `bench`, and its tables."""

import dataclasses
import importlib.metadata
import os
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.benchmarks.cases import Case, case_name, part_name


@dataclasses.dataclass(frozen=True)
class Measured:
    """One program on one case."""

    seconds: list[float]
    """Of each timed call, in order."""
    imports_bytes: int
    """The memory peak after imports, before the case was set up."""
    peak_bytes: int
    """The memory peak at the end."""


@dataclasses.dataclass(frozen=True)
class Result:
    """The programs on one case."""

    case: Case
    ours: Measured
    authors: Measured
    """PyTorch, in the authors' way."""
    tuned: Measured
    """PyTorch, tuned."""
    compile_s: float
    """Of ours, tracing included."""
    flops: int
    """Nominal, of one call."""
    matrix_rate: float
    """FLOP/s of a large float32 matrix product."""


HEAD = (
    "network",
    "shape",
    "ipc",
    "part",
    "gm_jax, s",
    "PyTorch, s",
    "PyTorch / gm_jax",
    "tuned PyTorch, s",
    "tuned / gm_jax",
    "gm_jax peak, MB",
    "PyTorch peak, MB",
    "tuned peak, MB",
    "gm_jax compile, s",
    "share of matrix rate",
)

LEGEND = """\
Seconds: the fastest call (median, slowest), because what disturbs a call only slows it; ratios and
shares are those of the fastest calls. PyTorch: in the authors' way, and tuned (torch.compile where
it can be used, no data loader, a fused optimiser; on a CPU microbatches and an allocator that keeps
its pages, which gm_jax has too, on a GPU CUDA graphs). A ratio above 1: gm_jax is faster.
Peaks: MB of 10^6 bytes, of the process with its compiler (in brackets: after imports) on a CPU, of
a case on the device elsewhere."""


def ratio(theirs: Measured, ours: Measured) -> float:
    """Their seconds over ours, of the fastest calls."""
    return min(theirs.seconds) / min(ours.seconds)


def share(result: Result) -> float:
    """Our FLOP/s in the fastest call over the matrix product's."""
    return result.flops / min(result.ours.seconds) / result.matrix_rate


def row(result: Result) -> tuple[str, ...]:
    """A row of the table."""
    case = result.case
    return (
        case.network,
        case.shape,
        str(case.ipc) if case.ipc else "any",
        part_name(case),
        _spread(result.ours.seconds),
        _spread(result.authors.seconds),
        f"{ratio(result.authors, result.ours):.2f}",
        _spread(result.tuned.seconds),
        f"{ratio(result.tuned, result.ours):.2f}",
        _peak(result.ours),
        _peak(result.authors),
        _peak(result.tuned),
        f"{result.compile_s:.1f}",
        f"{share(result):.0%}",
    )


def table(results: Sequence[Result]) -> str:
    """A Markdown table, a row for each case."""
    lines = [HEAD, ("---",) * len(HEAD), *map(row, results)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _spread(seconds: Sequence[float]) -> str:
    low, middle, high = map(_digits, (min(seconds), statistics.median(seconds), max(seconds)))
    return f"{low} ({middle}, {high})"


def _digits(number: float) -> str:
    """Three significant digits."""
    return f"{number:.0f}" if number >= 1000 else f"{number:#.3g}".rstrip(".")


def _peak(measured: Measured) -> str:
    return f"{measured.peak_bytes / 1e6:.0f} ({measured.imports_bytes / 1e6:.0f})"


def progress(result: Result) -> str:
    """A line about a finished case."""
    return (
        f"{case_name(result.case)}: gm_jax {_spread(result.ours.seconds)} s, "
        f"PyTorch {_spread(result.authors.seconds)} s, {ratio(result.authors, result.ours):.2f}, "
        f"tuned {_spread(result.tuned.seconds)} s, {ratio(result.tuned, result.ours):.2f}"
    )


def machine(jax_about: dict[str, Any], torch_about: dict[str, Any]) -> dict[str, Any]:
    """The machine and the versions that were measured."""
    return {
        "platform": platform.platform(),
        "processor": _processor(),
        "cpu_count": os.cpu_count(),
        "python": platform.python_version(),
        "numpy": importlib.metadata.version("numpy"),
        "jax": jax_about,
        "torch": torch_about,
    }


def _processor() -> str:
    """The CPU's name; on Linux Python does not provide it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
