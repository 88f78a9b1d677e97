"""Kills real runs at random moments, resumes them, and compares every byte with an unbroken run.

    python -m experiments.faults             # 20 kills
    python -m experiments.faults --kills 2   # what the tests do

A run is two seeds of a small ConvNet on `digits`, a checkpoint after every iteration.  Each trial
is a process of its own, sent SIGKILL at a moment drawn between its first iteration and its last;
every other one not before a checkpoint is half written.  The same command with `--resume` then ends
it, and `gm-jax evaluate` trains networks on the result.  All files must be those of the unbroken
run; in metrics.jsonl the clock's `seconds` are left out.
"""

import dataclasses
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import tyro

from gm_jax.errors import UserError
from gm_jax.storage.run_folder import LOCK

RUN = (
    "--dataset digits --width 8 --depth 1 --ipc 2 --outer-steps 3 --inner-epochs 5 --batch-real 16 "
    "--seeds 2 --iterations 25 --checkpoint-every 1"
).split()


@dataclasses.dataclass(frozen=True)
class Settings:
    """How many runs are killed, and when."""

    kills: int = 20
    """Runs that are killed and resumed."""
    seed: int = 0
    """Of the moments."""


class Trial(NamedTuple):
    """What became of one run.

    Attributes:
        killed_after: iterations that were logged when it was killed.
        half_written: whether a checkpoint was then being written.
        resumed_at: the iteration it went on from.
        unlike: files that are not those of the unbroken run.
    """

    killed_after: int
    half_written: bool
    resumed_at: int
    unlike: tuple[str, ...]


def gm_jax(*arguments: str) -> subprocess.Popen:
    """A command in a process of its own."""
    command = [sys.executable, "-m", "gm_jax", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(*arguments: str) -> str:
    """Runs a command to its end; what it said on standard error."""
    process = gm_jax(*arguments)
    said = process.communicate()[1]
    if process.returncode:
        raise UserError(f"{' '.join(arguments)} ended with {process.returncode}: {said}")
    return said


def results(folder: Path) -> dict[str, bytes]:
    """Every file of a run, the clock left out."""
    found = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != LOCK}
    lines = [json.loads(line) for line in found["metrics.jsonl"].splitlines()]
    timeless = [{k: v for k, v in line.items() if k != "seconds"} for line in lines]
    found["metrics.jsonl"] = json.dumps(timeless).encode()
    return found


def _evaluate(folder: Path) -> list[str]:
    return ["evaluate", str(folder), "--count", "1", "--epochs", "3"]


def trial(
    folder: Path, delay: float, while_writing: bool, expected: dict[str, bytes]
) -> Trial | None:
    """Kills a run `delay` seconds after its first iteration, and resumes it.

    Returns:
        what became of it; `None` if it was finished before it was killed.
    """
    process = gm_jax("condense", *RUN, "--out", str(folder))
    while process.poll() is None and not _logged(folder):
        time.sleep(0.01)
    time.sleep(delay)
    while while_writing and process.poll() is None and not _half_written(folder):
        time.sleep(0.0005)
    process.kill()
    process.communicate()
    if (folder / "synthetic.npz").exists():
        return None
    killed_after, half_written = _logged(folder), _half_written(folder)
    said = finish("condense", *RUN, "--out", str(folder), "--resume")
    finish(*_evaluate(folder))
    found = results(folder)
    names = sorted(set(found) | set(expected))
    unlike = tuple(name for name in names if found.get(name) != expected.get(name))
    return Trial(killed_after, half_written, _resumed_at(said), unlike)


def _logged(folder: Path) -> int:
    """Iterations in metrics.jsonl, of two seeds each."""
    path = folder / "metrics.jsonl"
    return path.read_bytes().count(b"\n") // 2 if path.exists() else 0


def _half_written(folder: Path) -> bool:
    """Whether anything but whole checkpoints is in their folder."""
    try:
        names = {path.name for path in (folder / "checkpoints").iterdir()}
    except OSError:
        return False
    return any(f"{name}.json" not in names for name in names if not name.endswith(".json"))


def _resumed_at(said: str) -> int:
    (line,) = [line for line in said.splitlines() if " goes on at iteration " in line]
    return int(line.partition(" goes on at iteration ")[2].split()[0])


def run(settings: Settings, folder: Path) -> list[Trial]:
    """All trials, in `folder`; a line on standard error for each."""
    finish("condense", *RUN, "--out", str(folder / "whole"))
    finish(*_evaluate(folder / "whole"))
    expected = results(folder / "whole")
    lines = (folder / "whole" / "metrics.jsonl").read_text().splitlines()
    first, last = (json.loads(lines[at])["seconds"] for at in (0, -1))
    moments, trials = random.Random(settings.seed), []
    while len(trials) < settings.kills:
        path = folder / "killed"
        delay = moments.uniform(0, last - first)
        found = trial(path, delay, while_writing=len(trials) % 2 == 1, expected=expected)
        shutil.rmtree(path)
        if found is None:
            continue
        trials.append(found)
        print(f"[{len(trials)}/{settings.kills}] {_said(found)}", file=sys.stderr, flush=True)
    return trials


def _said(trial: Trial) -> str:
    where = " in a checkpoint" if trial.half_written else ""
    equal = f"unlike: {', '.join(trial.unlike)}" if trial.unlike else "equal"
    return f"killed after {trial.killed_after}{where}, resumed at {trial.resumed_at}: {equal}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status, 1 if a file differs."""
    settings = tyro.cli(Settings, description=__doc__, args=arguments)
    with tempfile.TemporaryDirectory() as folder:
        trials = run(settings, Path(folder))
    halves = sum(trial.half_written for trial in trials)
    equal = sum(not trial.unlike for trial in trials)
    print(
        f"{len(trials)} runs killed, {halves} of them while a checkpoint was written: "
        f"{equal} ended equal to the unbroken run in every byte"
    )
    return 0 if equal == len(trials) else 1


if __name__ == "__main__":
    sys.exit(main())
