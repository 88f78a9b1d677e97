"""All measurements that `docs/performance.md` needs of a GPU or TPU, in one command.

    python -m experiments.benchmarks.accelerator --out accelerator
    python -m experiments.benchmarks.accelerator --rehearse    # with little work

The steps run one after another, because nothing else may run meanwhile: the benchmark beside
PyTorch at ipc 1 and 10; sets and networks by chunk (1 and 4, at ipc 10); a full `mnist5k` run with
the paper's settings, 1000 iterations at ipc 1, and its evaluation with 20 networks.  Most of their
time is compiling.  Install JAX for the device first, and PyTorch for it; `--skip bench` needs no
PyTorch.  A rehearsal shows on any machine that every step works; its numbers mean nothing.
"""

import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from experiments import command
from gm_jax.storage.files import write_json

MODULE = "experiments.benchmarks.accelerator"

StepName = Literal["bench", "chunks", "condense", "evaluate"]


class Work(NamedTuple):
    """The settings of each step."""

    bench: str
    chunks: str
    condense: str
    evaluate: str


FULL = Work(
    bench="--shapes mnist --ipc 1 10",
    chunks="--ipc 10 --batch-real 256 --numbers 1 4",
    condense="--dataset mnist5k --ipc 1 --iterations 1000 --batch-real 256 --no-compile-cache",
    evaluate="--no-compile-cache",
)
REHEARSAL = Work(
    bench="--quick",
    chunks="--dataset digits --batch-real 2 --numbers 1 2 --epochs 1 --repeats 1",
    condense="--dataset mnist5k --ipc 1 --iterations 2 --batch-real 4",
    evaluate="--count 1 --epochs 2",
)


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to run, and where to write."""

    out: Path = Path("accelerator")
    """Folder for the output of the steps, bench.json, and the run; of a rehearsal, its folder
    `rehearsal`."""
    skip: tuple[StepName, ...] = ()
    """Steps to leave out."""
    rehearse: bool = False
    """The same steps with little work, to see that they run."""


def steps(work: Work, out: Path) -> dict[str, list[str]]:
    """The commands, by name, in order."""
    bench, chunks, condense, evaluate = (settings.split() for settings in work)
    run, timings = str(out / "run"), str(out / "bench.json")
    return {
        "bench": ["experiments.benchmarks.bench", *bench, "--out", timings],
        "chunks": ["experiments.benchmarks.chunks", *chunks],
        "condense": ["gm_jax", "condense", *condense, "--out", run, "--replace"],
        "evaluate": ["gm_jax", "evaluate", run, *evaluate],
    }


def run_step(words: Sequence[str], output: Path) -> tuple[float, int]:
    """Runs a module, its output in a file; seconds and exit status."""
    print(f"{output.stem}: python -m {' '.join(words)}", flush=True)
    start = time.perf_counter()
    with output.open("w") as file:
        done = subprocess.run(
            [sys.executable, "-m", *words], stdout=file, stderr=subprocess.STDOUT, check=False
        )
    print("\n".join(output.read_text().splitlines()[-40:]), flush=True)
    return round(time.perf_counter() - start, 1), done.returncode


def work(settings: Settings, _: str) -> None:
    """Runs the steps, all of them even if one fails."""
    out = settings.out / "rehearsal" if settings.rehearse else settings.out
    out.mkdir(parents=True, exist_ok=True)
    seconds, failed = {}, []
    for name, words in steps(REHEARSAL if settings.rehearse else FULL, out).items():
        if name not in settings.skip:
            seconds[name], status = run_step(words, out / f"{name}.txt")
            failed += [name] if status else []
            write_json(out / "seconds.json", seconds)
    print(json.dumps(seconds))
    if failed:
        raise command.FailedError(f"failed: {', '.join(failed)}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    return command.main(MODULE, __doc__, Settings, work, arguments)


if __name__ == "__main__":
    sys.exit(main())
