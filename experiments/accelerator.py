"""Everything that `docs/performance.md` wants to know of a GPU or TPU, in one call.

    python -m experiments.accelerator --out accelerator
    python -m experiments.accelerator --rehearse    # with little work

One after another, because nothing else may run meanwhile: the benchmark beside PyTorch at ipc 1 and
10; seeds and networks by chunk (1, 4, 16); the whole `mnist5k` job at the paper's settings, 1000
iterations at ipc 1, with the time it took and the accuracy of 20 networks.  Install JAX for the
device first, and PyTorch for it; `--skip bench` does without PyTorch.  A rehearsal shows on any
machine that every step works; its numbers say nothing.
"""

import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import tyro

from gm_jax.storage import run_folder


class Work(NamedTuple):
    """The settings of each step."""

    bench: str
    chunks: str
    condense: str
    evaluate: str


WHOLE = Work(
    bench="--shapes mnist --ipc 1 10",
    chunks="--ipc 1 10 --batch-real 256",
    condense="--dataset mnist5k --ipc 1 --iterations 1000 --batch-real 256",
    evaluate="",
)
REHEARSAL = Work(
    bench="--quick",
    chunks="--dataset digits --batch-real 2 --numbers 1 2 --epochs 1 --repeats 1",
    condense="--dataset mnist5k --ipc 1 --iterations 2 --batch-real 4",
    evaluate="--count 1 --epochs 2",
)


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to run, and where to put it."""

    out: Path = Path("accelerator")
    """Folder for what the steps print, for bench.json, and for the run; of a rehearsal, its
    folder `rehearsal`."""
    skip: tuple[str, ...] = ()
    """Steps to leave out: bench, chunks, condense, evaluate."""
    rehearse: bool = False
    """The same steps with little work, to see that they run."""


def steps(work: Work, out: Path) -> dict[str, list[str]]:
    """The commands, by name, in order."""
    bench, chunks, condense, evaluate = (settings.split() for settings in work)
    run = str(out / "run")
    return {
        "bench": ["experiments.bench", *bench, "--out", str(out / "bench.json")],
        "chunks": ["experiments.chunks", *chunks],
        "condense": ["gm_jax", "condense", *condense, "--out", run, "--replace"],
        "evaluate": ["gm_jax", "evaluate", run, *evaluate],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the steps; returns 0 if all of them did their work, else 1."""
    settings = tyro.cli(
        Settings, prog="python -m experiments.accelerator", description=__doc__, args=arguments
    )
    for name in settings.skip:
        if name not in Work._fields:
            print(
                f"accelerator: --skip {name!r}: choose {', '.join(Work._fields)}", file=sys.stderr
            )
            return 2
    work = REHEARSAL if settings.rehearse else WHOLE
    out = settings.out / "rehearsal" if settings.rehearse else settings.out
    out.mkdir(parents=True, exist_ok=True)
    seconds = {}
    failed = []
    for name, command in steps(work, out).items():
        if name in settings.skip:
            continue
        print(f"{name}: python -m {' '.join(command)}", flush=True)
        start = time.perf_counter()
        with (out / f"{name}.txt").open("w") as file:
            command = [sys.executable, "-m", *command]
            done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False)
        seconds[name] = round(time.perf_counter() - start, 1)
        failed += [name] if done.returncode else []
        run_folder.write_json(out / "seconds.json", seconds)
        lines = (out / f"{name}.txt").read_text().splitlines()
        print("\n".join(lines[-40:]), flush=True)
    print(json.dumps(seconds))
    if failed:
        print(f"accelerator: failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
