"""The time of an iteration by kernel: XLA's own trace, summed by what is computed.

    python -m experiments.benchmarks.trace                  # real gradients, ConvNet 128 on 28x28
    python -m experiments.benchmarks.trace --part iteration --batch-real 256
    python -m experiments.benchmarks.trace --part "inner epoch"

An iteration is shown by phase (the named scopes of `gm_jax/core/iteration.py`) beside the time that
the phase's operations would need at the machine's matrix rate; every part by layer and direction.
A share is of the kernels' time, summed over the threads that ran them; seconds are those of a call
without tracing, divided by these shares.
"""

import collections
import dataclasses
import gzip
import json
import re
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax

from experiments import command
from experiments.benchmarks.cases import (
    EPOCH,
    ITERATION,
    MATCH,
    REAL,
    Case,
    PartName,
    ShapeName,
    flops,
)
from experiments.benchmarks.worker_gm_jax import matrix_rate
from experiments.benchmarks.worker_gm_jax import work as computation
from gm_jax.checks import Count
from gm_jax.nn import platforms
from gm_jax.published_settings import paper_steps

MODULE = "experiments.benchmarks.trace"

PHASES = re.compile(
    r"\b(fresh_network|draw|real_signals|synthetic_signals|match|pullback|inner_loop)\b"
)
LAYER = re.compile(r"\b(Conv|Dense|InstanceNorm|BatchNorm|LayerNorm|GroupNorm)_(\d+)")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to trace: a case of `bench`, with fewer real images."""

    part: PartName = "real gradients"
    """Part of the method; quote names with blanks."""
    shape: ShapeName = "mnist"
    """Image shape: mnist (28x28x1), cifar10 (32x32x3)."""
    ipc: Count = 10
    """Synthetic images of each class."""
    batch_real: Count = 64
    """Real images of each class."""
    outer_steps: Count = 2
    """Outer steps of an iteration."""
    epochs: Count = 20
    """Epochs of an evaluation."""


def kernels(program: jax.stages.Compiled, arguments: tuple) -> dict[str, float]:
    """Milliseconds of each instruction in one call, by its name in the compiled program."""
    jax.block_until_ready(program(*arguments))
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            jax.block_until_ready(program(*arguments))
        (path,) = Path(folder).rglob("*.trace.json.gz")
        events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    spent: dict[str, float] = collections.defaultdict(float)
    for event in events:
        if event.get("ph") == "X":
            spent[event["name"]] += event["dur"] / 1000
    return spent


def instructions(program: str) -> dict[str, str]:
    """The source of each instruction; for loops and calls, that of the instructions in them."""
    line = re.compile(r"^\s*(?:ROOT )?%?([\w.\-]+) = .*? ([a-z\-]+)\(.*?op_name=\"([^\"]*)\"")
    found = (line.match(text) for text in program.splitlines())
    bodies = ("while", "call", "conditional")
    return {match[1]: match[3] for match in found if match and match[2] not in bodies}


def group(source: str) -> str:
    """Layer and direction of an instruction, from its place in the source."""
    layers = LAYER.findall(source)
    backward = "backward" if "transpose(" in source else "forward"
    if layers:
        return f"{layers[-1][0]} {int(layers[-1][1]) + 1}, {backward}"
    return f"ReLU and pooling, {backward}" if "ConvNet" in source else "the rest"


def phase(source: str) -> str:
    """The named scope of an instruction, from its place in the source."""
    found = PHASES.search(source)
    return found[1] if found else "the rest"


def phase_flops(case: Case) -> dict[str, int]:
    """FLOPs of those phases of an iteration that have convolutions, by the formulas of `cases.py`.

    Of a synthetic match + gradient, n (g + 6 f), the signals are n g, as much as an inner epoch.
    """
    real, match, epoch = (
        flops(dataclasses.replace(case, part=part)) for part in (REAL, MATCH, EPOCH)
    )
    return {
        "real_signals": case.outer_steps * real,
        "synthetic_signals": case.outer_steps * epoch,
        "pullback": case.outer_steps * (match - epoch),
        "inner_loop": (case.outer_steps - 1) * case.inner_epochs * epoch,
    }


def by(
    name_of: Callable[[str], str], spent: Mapping[str, float], sources: Mapping[str, str]
) -> list[tuple[str, float]]:
    """Names of instructions, each with its share of their time, the largest first."""
    groups: dict[str, float] = collections.defaultdict(float)
    for instruction, milliseconds in spent.items():
        if instruction in sources:
            groups[name_of(sources[instruction])] += milliseconds
    total = sum(groups.values())
    largest_first = sorted(groups.items(), key=lambda group: -group[1])
    return [(name, part / total) for name, part in largest_first]


def show(case: Case) -> None:
    """Traces, sums, prints Markdown tables."""
    function, arguments = computation(case)
    program = platforms.compile_program(jax.jit(function).lower(*arguments))
    spent, sources = kernels(program, arguments), instructions(program.as_text() or "")
    start = time.perf_counter()
    jax.block_until_ready(program(*arguments))
    total = time.perf_counter() - start
    print(f"one call without tracing: {total:.3f} s\n")
    if case.part == ITERATION:
        rate, counted = matrix_rate(), phase_flops(case)
        print("| phase | s | share | s at the matrix rate |\n|---|---|---|---|")
        for name, share in by(phase, spent, sources):
            least = f"{counted[name] / rate:.2f}" if name in counted else ""
            print(f"| {name} | {total * share:.2f} | {100 * share:.1f} % | {least} |")
        print()
    print("| what | s | share |\n|---|---|---|")
    for name, share in by(group, spent, sources):
        print(f"| {name} | {total * share:.2f} | {100 * share:.1f} % |")


def work(settings: Settings, _: str) -> None:
    """Traces the case that the settings name."""
    show(Case(**dataclasses.asdict(settings), inner_epochs=paper_steps(settings.ipc)[1]))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    return command.main(MODULE, __doc__, Settings, work, arguments)


if __name__ == "__main__":
    # a program from the cache has the names of the source that it was first compiled from
    jax.config.update("jax_enable_compilation_cache", False)
    sys.exit(main())
