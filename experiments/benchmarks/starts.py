"""From the command to the first iteration: seconds, without compiled programs and with them.

    python -m experiments.benchmarks.starts           # mnist5k, ipc 1 and 10: two minutes

`gm-jax condense` with its defaults, until it says how much memory the compiled iteration needs,
which is when the first one begins.  *Cold* has an empty compilation cache, *warm* the programs of
the start before.
"""

import contextlib
import dataclasses
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import jax

from experiments import command
from experiments.benchmarks.compile_time import spread
from experiments.benchmarks.levers import device_kind, in_process
from experiments.command import SOME, FailedError
from gm_jax.checks import Count

MODULE = "experiments.benchmarks.starts"


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to start."""

    ipc: Annotated[tuple[Count, ...], SOME] = (1, 10)
    """Synthetic images of each class."""
    repeats: Count = 3
    """How often, cold and warm."""


def seconds_to_start(ipc: int, cache: Path, out: Path) -> float:
    """From the command to the first iteration, which is stopped.

    Args:
        ipc: synthetic images of each class.
        cache: where compiled programs are kept.
        out: the run's folder, replaced.

    Raises:
        FailedError: the run ended before.
    """
    run = f"condense --dataset mnist5k --ipc {ipc} --replace --out".split()
    start, said = time.perf_counter(), ""
    with _lines([sys.executable, "-m", "gm_jax", *run, str(out)], cache) as lines:
        for line in lines:
            if line.startswith("memory: "):
                return time.perf_counter() - start
            said = line
    raise FailedError(f"gm-jax condense did not start: {said.strip()}")


@contextlib.contextmanager
def _lines(program: Sequence[str], cache: Path) -> Iterator[Iterator[str]]:
    """What a program prints, which is killed in the end."""
    here = os.environ | {"GM_JAX_CACHE": str(cache)}
    here.pop("JAX_COMPILATION_CACHE_DIR", None)  # it would be used instead
    pipe, to_pipe = subprocess.PIPE, subprocess.STDOUT
    with subprocess.Popen(program, env=here, stdout=pipe, stderr=to_pipe, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout
        finally:
            process.kill()


def work(settings: Settings, _: str) -> None:
    """Starts, prints a Markdown table."""
    print(f"{in_process(device_kind)}, jax {jax.__version__}")
    print("| ipc | cold, s: median (lowest to highest) | warm, s |\n|---|---|---|", flush=True)
    for ipc in settings.ipc:
        starts = [cold_and_warm(ipc) for _ in range(settings.repeats)]
        print(f"| {ipc} | {' | '.join(map(spread, zip(*starts)))} |", flush=True)


def cold_and_warm(ipc: int) -> tuple[float, float]:
    """Seconds of a start with an empty compilation cache, and of the next one."""
    with tempfile.TemporaryDirectory() as folder:
        cold, warm = (
            seconds_to_start(ipc, Path(folder, "cache"), Path(folder, "run")) for _ in range(2)
        )
    return cold, warm


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    return command.main(MODULE, __doc__, Settings, work, arguments)


if __name__ == "__main__":
    sys.exit(main())
