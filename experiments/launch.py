"""The cells of a table as jobs of a cluster, one each, by submitit.

    pip install 'gm_jax[slurm]'
    python -m experiments.launch table1_levels --minutes 120 -- --ipc 10 --out results/levels
    python -m experiments.table1_levels --ipc 10 --out results/levels      # once they are done

What stands after `--` are the arguments of the script.  Every job sees the same folder OUT.  A job
that is preempted or runs out of time is queued again by submitit, and goes on from its last
checkpoint.
"""

import dataclasses
import functools
import importlib
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import tyro

from experiments import command
from gm_jax.checks import Count, CountOrAll
from gm_jax.errors import UserError, require

MODULE = "experiments.launch"

TableName = Literal[
    "table1_levels",
    "table2_distances",
    "table3_main",
    "table4_cross_architecture",
    "table5_signals",
    "recipes",
    "figure_step_rules",
    "figure_gradient_gap",
]


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to run, and where."""

    table: Annotated[TableName, tyro.conf.Positional]
    """Script of experiments/."""
    cluster: Literal["slurm", "local"] = "slurm"
    """Slurm, or processes of this machine, for which it waits."""
    minutes: Count = 240
    """Most minutes of a job."""
    gpus: CountOrAll = 0
    """GPUs of a job."""
    cpus: Count = 8
    """Cores of a job."""
    partition: str | None = None
    """Slurm's partition. Default: the cluster's own."""
    logs: Path = Path("logs")
    """Folder for the jobs' output."""


class Job(NamedTuple):
    """One cell, to be run anywhere: what submitit sends to a job.

    Attributes:
        module: the script.
        arguments: of the script.
        cell: its number.
    """

    module: str
    arguments: tuple[str, ...]
    cell: int

    def __call__(self) -> None:
        """Runs the cell; raises `RuntimeError` if it failed.

        submitit queues the job again when Slurm sends SIGUSR2; SIGTERM comes with it, and is left
        to submitit too.
        """
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        main = importlib.import_module(self.module).main
        try:
            status = main([*self.arguments, "--cell", str(self.cell)])
        except SystemExit as leave:
            status = leave.code
        if status:
            raise RuntimeError(f"{self.module} --cell {self.cell} ended with status {status}")

    def checkpoint(self) -> Any:
        """What submitit queues in place of a job that is cut off: the same, which resumes."""
        return require("submitit", "slurm").helpers.DelayedSubmission(self)


def jobs(table: str, arguments: tuple[str, ...]) -> list[Job]:
    """A job for each cell of a table."""
    module = f"experiments.{table}"
    for word in ("--help", "-h", "--list-cells", "--cell"):
        if word in arguments:
            raise UserError(f"{word} after -- is of the script alone: python -m {module} {word}")
    listing = [sys.executable, "-m", module, *arguments, "--list-cells"]
    done = subprocess.run(listing, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(done.stderr.strip() or f"{shlex.join(listing)} failed")
    return [Job(module, arguments, number) for number in range(len(done.stdout.splitlines()))]


def work(arguments: tuple[str, ...], settings: Settings, _: str) -> None:
    """Submits the jobs, and says how to go on."""
    if settings.partition is not None and settings.cluster == "local":
        raise UserError("--partition has no meaning with --cluster local")
    submitit, found = require("submitit", "slurm"), jobs(settings.table, arguments)
    try:
        executor = submitit.AutoExecutor(folder=settings.logs, cluster=settings.cluster)
    except RuntimeError as error:
        raise UserError(f"--cluster {settings.cluster}: {error}") from error
    executor.update_parameters(
        timeout_min=settings.minutes,
        gpus_per_node=settings.gpus,
        cpus_per_task=settings.cpus,
        name=settings.table,
    )
    if settings.partition is not None:
        executor.update_parameters(slurm_partition=settings.partition)
    # a job may start in another folder than this one
    paths = [os.getcwd(), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    try:
        if settings.cluster == "slurm":
            submitted = executor.submit_array(found)
        else:
            submitted = [executor.submit(job) for job in found]
    except RuntimeError as error:
        said = " ".join(str(error).split())
        raise UserError(f"the jobs cannot be submitted: {said}") from error
    for job, cell in zip(submitted, found):
        print(f"{job.job_id}: cell {cell.cell}")
    if settings.cluster == "local":
        failed = [cell.cell for job, cell in zip(submitted, found) if job.exception() is not None]
        if failed:
            numbers = ", ".join(map(str, failed))
            raise command.FailedError(f"cells {numbers} failed: see {settings.logs}")
    table = shlex.join(["python", "-m", found[0].module, *found[0].arguments])
    print(f"once they are done: {table}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    at = words.index("--") if "--" in words else len(words)
    of_script = functools.partial(work, tuple(words[at + 1 :]))
    return command.main(MODULE, __doc__, Settings, of_script, words[:at])


if __name__ == "__main__":
    sys.exit(main())
