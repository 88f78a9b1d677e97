"""`gm-jax condense`: a run from its first iteration, or from its last checkpoint, to its end."""

import dataclasses
import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from gm_jax import api, checks
from gm_jax.build import build_method
from gm_jax.checks import flag
from gm_jax.cli.commands import Condense
from gm_jax.cli.opening import Opened, Run, locked, open_run, shared, unwritten
from gm_jax.cli.stopping import stopping
from gm_jax.cli.terminal import progress, say
from gm_jax.condensed import Condensed, DivergedError
from gm_jax.config import check, check_hosts, list_sets, several_values
from gm_jax.core.loop import iterations_done
from gm_jax.core.method import IterationInfo, State, unchanged
from gm_jax.core.objectives import MatchInfo
from gm_jax.data.loading import absolute, load
from gm_jax.disk import flush
from gm_jax.errors import StoppedError, UserError
from gm_jax.fit import check_run
from gm_jax.parallel import hosts
from gm_jax.storage import checkpoints, pictures, reading, replacing, run_folder, snapshots
from gm_jax.variants import describe_named, load_variant

CHECKPOINT_SECONDS = 60
"""From one checkpoint to the next, where `--checkpoint-every` is not given."""


def condense(command: Condense) -> None:
    """Checks everything that can be checked, then makes the folder, then works.

    Raises:
        UserError: a setting, the data, or the folder is not as it must be; or the images diverged.
        StoppedError: a signal came; a checkpoint was saved.
    """
    _join(command)
    run = hosts.together(lambda: prepare(command))
    _refuse_other_processes(run)
    with locked(run.folder):
        opened = hosts.on_first(lambda: open_run(run, command)) or Opened(run)
        if hosts.highest(opened.finished):
            return
        try:
            _work(opened.run, command.checkpoint_every, shared(opened))
        except DivergedError as error:
            # all is saved by now, and this takes a while
            if hosts.is_first():
                error.args = (_explained(error, run),)
            raise
        except OSError as error:
            raise unwritten(run.folder, error) from error
    if hosts.is_first():
        print(f"condensed {run.config.dataset} to {run.config.ipc} images a class: {run.folder}")


def _explained(error: DivergedError, run: Run) -> str:
    """Why it diverged, as far as a single device can repeat the iteration."""
    try:
        return api.explain(error, run.dataset, run.variant)
    except jax.errors.JaxRuntimeError:
        return f"{error} (a single device has no memory to find out why)"


def _join(command: Condense) -> None:
    """Joins the other processes, if there are any: before JAX looks for devices."""
    checks.check(command)
    check_hosts(command.hosts, command.devices)
    if command.hosts.distributed:
        hosts.start(command.hosts.coordinator, command.hosts.processes, command.hosts.process)


def prepare(command: Condense) -> Run:
    """The run that a command stands for, with all checked that can be before it begins."""
    if command.resume and command.replace:
        raise UserError("--resume and --replace: choose one")
    config = dataclasses.replace(command.config, dataset=absolute(command.config.dataset))
    try:
        check(config)
    except UserError as error:
        recipe = f" (--recipe {command.recipe} sets some of these)" if command.recipe else ""
        raise UserError(f"{error}{recipe}") from error
    name = command.variant
    variant = unchanged if name is None else load_variant(name)
    dataset = load(config.dataset, config.image_size)
    check_run(config, dataset, variant, command.devices)
    if not pictures.can_draw():
        say("grid.png is left out: it needs pip install 'gm_jax[pictures]'")
    record = None if name is None else describe_named(name)
    about = run_folder.describe(config, dataset, record, command.recipe)
    return Run(command.out, config, dataset, variant, about, command.devices)


def _refuse_other_processes(run: Run) -> None:
    """Raises `UserError` in every process if one has other settings, or other data."""
    settings = run.about["settings"] | dataclasses.asdict(run.devices)
    same = {**settings, "variant": run.about["variant"], "images": run.about["data"]}
    first, *others = map(json.loads, hosts.texts(json.dumps(same)))
    for number, other in enumerate(others, 1):
        for name, value in first.items():
            if other[name] != value and name in settings:
                values = f"{other[name]}, process 0 with {value}"
                raise UserError(f"process {number} was started with {flag(name)} {values}")
            if other[name] != value:
                raise UserError(f"process {number} was started with another {name} than process 0")


# --- the work -------------------------------------------------------------------------------------


def _work(run: Run, checkpoint_every: int | None, state: State | None) -> None:
    """Condenses from `state` on, and writes what comes of it.

    An iteration's info is read while the next one runs, so that the device waits only where a
    snapshot is taken; many processes wait for one another after each.
    """
    before = 0 if state is None else iterations_done(state)
    with stopping() as came, progress(run.config.iterations, "iteration", before) as bar:
        seconds = hosts.on_first(lambda: _seconds(run.folder)) or 0.0
        rows = Rows(run, bar, time.perf_counter() - seconds)
        saver = Saver(run, checkpoint_every, came)
        unwritten = None
        iterations = api.iterations(run.config, run.dataset, run.variant, state, run.devices)
        for number, after, info in iterations:
            if unwritten is not None:
                rows.write(*unwritten)
            state, unwritten = after, (number, info)
            if snapshots.due(number + 1) and number + 1 < run.config.iterations:
                _take_snapshot(run, state, number + 1)
            if saver.due() and number + 1 < run.config.iterations:
                rows.write(*unwritten)
                unwritten = None
                saver.save(state)
        if unwritten is not None:
            rows.write(*unwritten)
        assert state is not None  # a run that has no iteration left to do is a finished run
        record = reading.variant_of(run.about)
        condensed = api.finish(run.config, run.dataset, state, run.variant, record)
        hosts.on_first(lambda: write_result(run, condensed))
        if condensed.diverged:
            raise DivergedError(condensed, hosts.fetch(state))


@dataclasses.dataclass
class Saver:
    """Saves checkpoints where they are due, or where a signal came, which it then obeys.

    All processes of a run do so after the same iteration.

    Attributes:
        run: what is saved.
        every: iterations from one to the next, 0 for none; `None` is as many as take
            `CHECKPOINT_SECONDS`.
        came: the signal that came to this process, or `None`.
        last: the clock at the last one.
        since: iterations since.
    """

    run: Run
    every: int | None
    came: Callable[[], str | None]
    last: float = dataclasses.field(default_factory=time.monotonic)
    since: int = 0

    def due(self) -> bool:
        """Whether to save after this iteration; called once after each."""
        self.since += 1
        by_time = time.monotonic() - self.last >= CHECKPOINT_SECONDS
        due = by_time if self.every is None else self.since == self.every
        return bool(hosts.highest(due or self.came() is not None))

    def save(self, state: State) -> None:
        """Saves; raises `StoppedError` if a signal came."""
        state, identity = hosts.fetch(state), run_folder.identity(self.run.about)
        hosts.on_first(lambda: checkpoints.save(self.run.folder, state, identity))
        self.last, self.since = time.monotonic(), 0
        mine = self.came()
        stopped = hosts.highest(signal.Signals[mine].value if mine else 0)
        if stopped:
            number, total = iterations_done(state), self.run.config.iterations
            name = signal.Signals(stopped).name
            raise StoppedError(f"stopped by {name} after iteration {number} of {total}", name)


def _take_snapshot(run: Run, state: State, done: int) -> None:
    parametrisation = run.variant(build_method(run.config, run.dataset)).parametrisation
    pixels = snapshots.first_of_state(state, run.dataset.train, parametrisation)
    hosts.on_first(lambda: snapshots.add(run.folder, done, pixels))


def write_result(run: Run, condensed: Condensed) -> None:
    """All that a finished run has, synthetic.npz last: what has it is finished."""
    flush(run.folder / "metrics.jsonl")
    if pictures.can_draw():
        pictures.save_grid(run.folder / "grid.png", condensed)
    run_folder.write_condensed(run.folder, condensed, run.about)
    checkpoints.discard(run.folder)
    if condensed.finished:  # else the run before is the only one with a result
        replacing.drop_replaced(run.folder)


# --- what is logged -------------------------------------------------------------------------------


def _seconds(folder: Path) -> float:
    """Seconds that the iterations of a resumed run have taken so far."""
    rows = reading.read_metrics(folder)
    return rows[-1]["seconds"] if rows else 0.0


class Rows(NamedTuple):
    """Where the iterations' lines go.

    Attributes:
        run: that they are of.
        bar: moves on with each iteration.
        began: the clock when the run began, had it never been interrupted.
    """

    run: Run
    bar: tqdm
    began: float

    def write(self, number: int, info: IterationInfo) -> None:
        """One line in metrics.jsonl for each set that has not diverged, and a step of the bar."""
        info = hosts.fetch(info)
        hosts.on_first(lambda: self._write(number, info))

    def _write(self, number: int, info: IterationInfo) -> None:
        means = jax.tree.map(lambda part: part.mean(-1), info.match)
        config = self.run.config
        rows: list[dict[str, Any]] = [
            {
                "iteration": number,
                "seed": of_set.seed,
                **several_values(config, of_set.swept),
                **_parts(means, at),
                "inner_epochs": info.inner_epochs[at].tolist(),
                "loss_rose": info.loss_rose[at].tolist(),
                "seconds": round(time.perf_counter() - self.began, 3),
            }
            for at, of_set in enumerate(list_sets(config))
            if info.finite[at].all()
        ]
        run_folder.append_metrics(self.run.folder, rows)
        losses = [row["loss"] for row in rows]
        self.bar.set_postfix(loss=f"{np.mean(losses):.4g}" if losses else "nan", refresh=False)
        self.bar.update()


def _parts(means: MatchInfo, at: int) -> dict[str, Any]:
    """The loss and its parts of one set, by name."""
    of_set = jax.tree.map(lambda part: float(part[at]), means)
    return {name: part for name, part in of_set._asdict().items() if part is not None}
