"""Kills real runs at random moments, resumes them, and compares every byte with an unbroken run.

    python -m tests.stress.faults             # 20 kills
    python -m tests.stress.faults --kills 2   # as in the tests

A run is two seeds of a small ConvNet on `digits`, with a checkpoint after every iteration.  Each
trial is a process of its own, killed by SIGKILL at a moment drawn between its first and last
iteration; in every other trial, at the next moment when a checkpoint is half written.  The same
command with `--resume` then finishes the run, and `gm-jax evaluate` trains networks on the result.
All files must equal those of the unbroken run; in metrics.jsonl the clock's `seconds` are left out.
"""

import dataclasses
import json
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from experiments import command
from gm_jax.checks import SEED, Count
from gm_jax.cli.terminal import say
from gm_jax.storage.files import drafts
from tests.command_line import results

RUN = (
    "--dataset digits --width 8 --depth 1 --ipc 2 --outer-steps 3 --inner-epochs 5 --batch-real 16 "
    "--seeds 2 --iterations 25 --checkpoint-every 1"
).split()


@dataclasses.dataclass(frozen=True)
class Settings:
    """How many runs are killed, and when."""

    kills: Count = 20
    """Runs that are killed and resumed."""
    seed: Annotated[int, SEED] = 0
    """Of the moments."""


class Trial(NamedTuple):
    """The result of one trial.

    Attributes:
        killed_after: iterations that were logged when it was killed.
        half_written: whether a checkpoint was being written then.
        resumed_at: the iteration that it was resumed at.
        different: files that are not those of the unbroken run.
    """

    killed_after: int
    half_written: bool
    resumed_at: int
    different: tuple[str, ...]


# --- one trial ------------------------------------------------------------------------------------


def trial(
    folder: Path, delay: float, while_writing: bool, expected: dict[str, Any]
) -> Trial | None:
    """Kills a run and resumes it.

    Args:
        folder: of the run.
        delay: seconds from its first iteration.
        while_writing: whether to wait, after the delay, until a checkpoint is half written.
        expected: the files of the unbroken run.

    Returns:
        the result; `None` if the run was finished before it was killed.
    """
    killed_after = _kill(folder, delay, while_writing)
    if (folder / "synthetic.npz").exists():
        return None
    half_written = _half_written(folder)
    shown = finish("condense", *RUN, "--out", str(folder), "--resume")
    evaluate(folder)
    found = results(folder)
    names = sorted(set(found) | set(expected))
    different = tuple(name for name in names if found.get(name) != expected.get(name))
    return Trial(killed_after, half_written, _resumed_at(shown), different)


def _kill(folder: Path, delay: float, while_writing: bool) -> int:
    """Starts a run and kills it; how many iterations it had logged."""
    process = start("condense", *RUN, "--out", str(folder))
    while process.poll() is None and not _logged(folder):
        time.sleep(0.01)
    time.sleep(delay)
    while while_writing and process.poll() is None and not _half_written(folder):
        time.sleep(0.0001)
    process.kill()
    process.communicate()
    return _logged(folder)


def start(*arguments: str) -> subprocess.Popen:
    """A command of `gm-jax` in a process of its own."""
    words = [sys.executable, "-m", "gm_jax", *arguments]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(*arguments: str) -> str:
    """Runs a command to its end; returns its standard error."""
    process = start(*arguments)
    _, shown = process.communicate()
    if process.returncode:
        status = f"ended with status {process.returncode}"
        raise command.FailedError(f"{' '.join(arguments)} {status}: {shown}")
    return shown


def evaluate(folder: Path) -> None:
    """Trains a network on each set of a run."""
    finish("evaluate", str(folder), "--count", "1", "--epochs", "3")


def _logged(folder: Path) -> int:
    """Iterations in metrics.jsonl, of two seeds each."""
    path = folder / "metrics.jsonl"
    return path.read_bytes().count(b"\n") // 2 if path.exists() else 0


def _half_written(folder: Path) -> bool:
    """Whether there is a draft of a checkpoint."""
    return bool(drafts(folder / "checkpoints"))


def _resumed_at(shown: str) -> int:
    (number,) = re.findall(r" at iteration ([0-9]+) of ", shown)
    return int(number)


# --- all trials -----------------------------------------------------------------------------------


def run_trials(settings: Settings, folder: Path) -> list[Trial]:
    """All trials, in `folder`; a line on standard error for each."""
    unbroken = folder / "unbroken"
    finish("condense", *RUN, "--out", str(unbroken))
    evaluate(unbroken)
    expected = results(unbroken)
    lines = (unbroken / "metrics.jsonl").read_text().splitlines()
    first, last = (json.loads(lines[at])["seconds"] for at in (0, -1))
    moments = random.Random(settings.seed)
    trials: list[Trial] = []
    while len(trials) < settings.kills:
        delay, while_writing = moments.uniform(0, last - first), len(trials) % 2 == 1
        found = trial(folder / "killed", delay, while_writing, expected)
        shutil.rmtree(folder / "killed")
        if found is not None:
            trials.append(found)
            say(f"[{len(trials)}/{settings.kills}] {_describe(found)}")
    return trials


def _describe(trial: Trial) -> str:
    where = " while a checkpoint was written" if trial.half_written else ""
    equal = f"different: {', '.join(trial.different)}" if trial.different else "equal"
    return f"killed after {trial.killed_after}{where}, resumed at {trial.resumed_at}: {equal}"


def work(settings: Settings, _: str) -> None:
    """Runs all trials; fails if a file differs."""
    with tempfile.TemporaryDirectory() as folder:
        trials = run_trials(settings, Path(folder))
    halves = sum(trial.half_written for trial in trials)
    equal = sum(not trial.different for trial in trials)
    print(
        f"{len(trials)} runs killed, {halves} of them while a checkpoint was written: "
        f"{equal} ended equal to the unbroken run in every byte"
    )
    if equal < len(trials):
        raise command.FailedError(f"{len(trials) - equal} runs ended different")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status, 1 if a file differs."""
    return command.main("tests.stress.faults", __doc__, Settings, work, arguments)


if __name__ == "__main__":
    sys.exit(main())
