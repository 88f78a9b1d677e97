"""Where an iteration's time goes, kernel by kernel: XLA's own trace, added up by what it computes.

    python -m experiments.trace                      # real gradients, ConvNet 128 on 28x28
    python -m experiments.trace --part iteration --batch-real 256
    python -m experiments.trace --part "inner epoch"

An iteration is shown by phase (`condense.py` names them) beside what the phase's operations would
take at the machine's matrix rate; everything by layer and direction.  A share is of the kernels'
time, summed over the threads that ran them; seconds are the untraced call's, shared out likewise.
"""

import collections
import dataclasses
import gzip
import json
import re
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import tyro

from experiments.bench_cases import EPOCH, ITERATION, MATCH, PARTS, REAL, SHAPES, Case, flops
from experiments.bench_gm_jax import matrix_rate, work
from gm_jax.config import MOST
from gm_jax.core.step_rules import paper_steps

PHASES = re.compile(
    r"\b(fresh_network|draw|real_signals|synthetic_signals|match|pullback|inner_loop)\b"
)
LAYER = re.compile(r"\b(Conv|Dense|InstanceNorm|BatchNorm|LayerNorm|GroupNorm)_(\d+)")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to trace: a case of `experiments.bench`, of fewer real images."""

    part: str = PARTS[0]
    """real gradients, synthetic match + gradient, inner epoch, iteration, evaluation."""
    shape: str = "mnist"
    """mnist or cifar10."""
    ipc: int = 10
    """Synthetic images a class."""
    batch_real: int = 64
    """Real images a class."""
    outer_steps: int = 2
    """Outer steps of an iteration."""
    epochs: int = 20
    """Epochs of an evaluation."""


def kernels(program: jax.stages.Compiled, arguments: tuple) -> collections.Counter:
    """Milliseconds of each instruction in one call, by its name in the compiled program."""
    jax.block_until_ready(program(*arguments))
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            jax.block_until_ready(program(*arguments))
        (path,) = Path(folder).rglob("*.trace.json.gz")
        events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    spent = collections.Counter()
    for event in events:
        if event.get("ph") == "X":
            spent[event["name"]] += event["dur"] / 1000
    return spent


def instructions(program: str) -> dict[str, str]:
    """What of the source each instruction came from; loops and calls are left to their bodies."""
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
    """FLOPs of those phases of an iteration that have convolutions, by the formulas of the bench.

    Of a synthetic match + gradient, n (g + 6 f), the signals are n g: what an inner epoch takes.
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
    name_of: Callable[[str], str], spent: dict[str, float], sources: dict[str, str]
) -> list[tuple[str, float]]:
    """What instructions do, by name, with its share of all their time, the largest first."""
    groups = collections.Counter()
    for instruction, milliseconds in spent.items():
        if instruction in sources:
            groups[name_of(sources[instruction])] += milliseconds
    return [(name, part / groups.total()) for name, part in groups.most_common()]


def show(case: Case) -> None:
    """Traces, adds up, prints Markdown tables."""
    function, arguments = work(case)
    program = jax.jit(function).lower(*arguments).compile()
    spent, sources = kernels(program, arguments), instructions(program.as_text())
    started = time.perf_counter()
    jax.block_until_ready(program(*arguments))
    whole = time.perf_counter() - started
    print(f"one call without tracing: {whole:.3f} s\n")
    if case.part == ITERATION:
        rate, counted = matrix_rate(), phase_flops(case)
        print("| phase | s | share | s at the matrix rate |\n|---|---|---|---|")
        for name, share in by(phase, spent, sources):
            floor = f"{counted[name] / rate:.2f}" if name in counted else ""
            print(f"| {name} | {whole * share:.2f} | {100 * share:.1f} % | {floor} |")
        print()
    print("| what | s | share |\n|---|---|---|")
    for name, share in by(group, spent, sources):
        print(f"| {name} | {whole * share:.2f} | {100 * share:.1f} % |")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    settings = tyro.cli(
        Settings, prog="python -m experiments.trace", description=__doc__, args=arguments
    )
    for flag, allowed in (("part", PARTS), ("shape", SHAPES)):
        if getattr(settings, flag) not in allowed:
            value = getattr(settings, flag)
            print(f"trace: --{flag} {value!r}: choose {', '.join(allowed)}", file=sys.stderr)
            return 2
    for flag in ("ipc", "batch_real", "outer_steps", "epochs"):
        value = getattr(settings, flag)
        if not 1 <= value <= MOST:
            flag = flag.replace("_", "-")
            print(f"trace: --{flag} {value}: must be 1 to {MOST}", file=sys.stderr)
            return 2
    show(Case(**dataclasses.asdict(settings), inner_epochs=paper_steps(settings.ipc)[1]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
