"""Where an iteration's time goes, kernel by kernel: XLA's own trace, added up by what it computes.

    python -m experiments.trace                      # real gradients, ConvNet 128 on 28x28
    python -m experiments.trace --part "inner epoch" --ipc 10

Milliseconds are of kernels, summed over the threads that ran them; two cores can run two at a time,
so the sum may exceed the call's seconds.  Tracing itself costs some.
"""

import collections
import dataclasses
import gzip
import json
import re
import tempfile
import time
from pathlib import Path

import jax
import tyro

from experiments.bench_cases import PARTS, SHAPES, Case
from experiments.bench_gm_jax import work
from gm_jax.step_rules import paper_steps

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


def instructions(program: jax.stages.Compiled) -> dict[str, str]:
    """What of the source each instruction came from; loops and calls are left to their bodies."""
    line = re.compile(r"^\s*(?:ROOT )?%?([\w.\-]+) = .*?op_name=\"([^\"]*)\"")
    found = (line.match(text) for text in program.as_text().splitlines())
    named = {match[1]: match[2] for match in found if match}
    return {name: of for name, of in named.items() if not re.match(r"(while|jit_|call|cond)", name)}


def group(source: str) -> str:
    """Layer and direction of an instruction, from its place in the source."""
    layers = LAYER.findall(source)
    backward = "backward" if "transpose(" in source else "forward"
    if layers:
        return f"{layers[-1][0]} {int(layers[-1][1]) + 1}, {backward}"
    return f"ReLU and pooling, {backward}" if "ConvNet" in source else "the rest"


def main(settings: Settings) -> None:
    """Traces, adds up, prints a Markdown table."""
    if settings.part not in PARTS or settings.shape not in SHAPES:
        raise SystemExit(f"--part one of {', '.join(PARTS)}; --shape one of {', '.join(SHAPES)}")
    inner = paper_steps(settings.ipc)[1]
    case = Case(
        part=settings.part,
        shape=settings.shape,
        ipc=settings.ipc,
        batch_real=settings.batch_real,
        outer_steps=settings.outer_steps,
        inner_epochs=inner,
        epochs=settings.epochs,
    )
    function, arguments = work(case)
    program = jax.jit(function).lower(*arguments).compile()
    spent, sources = kernels(program, arguments), instructions(program)
    started = time.perf_counter()
    jax.block_until_ready(program(*arguments))
    whole = time.perf_counter() - started
    groups = collections.Counter()
    for name, milliseconds in spent.items():
        if name in sources:
            groups[group(sources[name])] += milliseconds
    total = sum(groups.values())
    print(f"one call without tracing: {whole:.3f} s; kernels, summed: {total / 1000:.3f} s\n")
    print("| what | ms | share |\n|---|---|---|")
    for what, milliseconds in groups.most_common():
        print(f"| {what} | {milliseconds:.0f} | {100 * milliseconds / total:.0f} % |")


if __name__ == "__main__":
    main(tyro.cli(Settings))
