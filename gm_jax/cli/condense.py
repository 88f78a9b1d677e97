"""`gm-jax condense`: a run from its first iteration, or from its last checkpoint, to its end."""

import contextlib
import dataclasses
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import numpy as np
import tyro
from tqdm import tqdm

from gm_jax.cli.terminal import progress, say
from gm_jax.condensed import DivergedError, Synthetic, Watch, condense_dataset, explain, swept
from gm_jax.config import MOST, Config, check, check_with, sets, start_runs
from gm_jax.core.iteration import CondenseState, IterationInfo
from gm_jax.core.loop import Memory
from gm_jax.data.images import Dataset
from gm_jax.data.loading import load, located
from gm_jax.errors import StoppedError, UserError
from gm_jax.storage import checkpoints, pictures, run_folder


@dataclasses.dataclass(frozen=True)
class Condense:
    """Condense a data set into a run folder.

    SIGTERM and Ctrl-C finish the iteration, save a checkpoint, and say how to go on.
    """

    config: Annotated[Config, tyro.conf.arg(name="")]
    out: Path
    """Run folder to write: config.json, metrics.jsonl, synthetic.npz, grid.png."""
    resume: bool = False
    """Go on from the last checkpoint in the run folder, with the same settings; begin where there
    is none."""
    checkpoint_every: int | None = None
    """Iterations from one checkpoint to the next; 0 saves none but at SIGTERM and Ctrl-C. Default:
    as many as take a minute."""
    replace: bool = False
    """Replace the run that the folder holds. A finished one stays in OUT/replaced until the new one
    is finished."""


SECONDS = 60
"""From one checkpoint to the next, where `--checkpoint-every` does not say."""


def condense(command: Condense) -> None:
    """Checks everything that can be checked, then makes the folder, then works.

    Raises:
        UserError: a setting, the data, or the folder is not as it must be; or the images diverged.
        StoppedError: a signal came; a checkpoint was saved.
    """
    _check_condense(command)
    config = dataclasses.replace(command.config, dataset=located(command.config.dataset))
    check(config)
    dataset = load(config.dataset, config.image_size, say)
    check_with(config, dataset)
    about = run_folder.described(config, dataset)
    with run_folder.locked(command.out):
        state = None
        if command.resume and _began(command.out):
            _refuse_others(command.out, about)
            if run_folder.finished(command.out):
                _leave(command.out)
                return
            state = _restored(command.out, config, dataset, about)
        elif not (command.resume or command.replace):
            _refuse_to_replace(command.out)
        try:
            if state is None:
                checkpoints.discard(command.out)
                run_folder.create(command.out, about)
            else:
                about = _continued(command.out, about, checkpoints.done(state))
            _work(command, config, dataset, about, state)
        except DivergedError as error:
            error.args = (explain(error, dataset),)  # all is saved by now, and this takes a while
            raise
        except OSError as error:
            raise _unwritten(command.out, error) from error
    print(f"condensed {config.dataset} to {config.ipc} images a class: {command.out}")


def _check_condense(command: Condense) -> None:
    every = command.checkpoint_every
    if every is not None and not 0 <= every <= MOST:
        raise UserError(f"--checkpoint-every {every}: must be 0 to {MOST}")
    if command.resume and command.replace:
        raise UserError("--resume and --replace: choose one")


# --- what the folder holds ------------------------------------------------------------------------


def _began(folder: Path) -> bool:
    began = (folder / "config.json").exists()
    if not began:
        say(f"{folder} holds nothing to resume: beginning")
    return began


def _leave(folder: Path) -> None:
    """A finished run as it is, but for what a kill at its very end left lying about."""
    checkpoints.discard(folder)
    synthetic = run_folder.read_synthetic(folder)
    if synthetic.whole:
        run_folder.drop_replaced(folder)
    if len(synthetic.whole) < len(synthetic.images):
        raise DivergedError(synthetic)
    say(f"{folder} is finished: nothing to resume")


def _refuse_to_replace(folder: Path) -> None:
    if run_folder.finished(folder):
        raise UserError(f"--out {folder} already holds a run: name another, or add --replace")
    if saved := checkpoints.numbers(folder):
        raise UserError(
            f"--out {folder} holds an unfinished run of {saved[-1]} iterations: "
            "add --resume to go on, or --replace to begin anew"
        )


def _refuse_others(folder: Path, about: dict[str, Any]) -> None:
    """Raises `UserError` for a run that was begun with other settings, or on other data."""
    held = run_folder.read_about(folder)
    for name, ours in about["settings"].items():
        if (theirs := held["settings"].get(name)) != ours:
            flag = "--" + name.replace("_", "-")
            raise UserError(
                f"{folder} was begun with {flag} {theirs}, not {ours}: resume it with the same "
                "settings, or name another --out"
            )
    if held["data"]["train"] != about["data"]["train"]:
        raise UserError(f"{folder} was begun with other images: {about['data']['name']} changed")


def _continued(folder: Path, about: dict[str, Any], number: int) -> dict[str, Any]:
    """What config.json says from now on of a run that goes on after `number` iterations."""
    held = run_folder.read_about(folder)
    now = {name: about[name] for name in ("versions", "platform", "commit")}
    last = held["continued"][-1] if held["continued"] else held
    if changed := [name for name in now if last[name] != now[name]]:
        say(f"{folder} goes on with other {', '.join(changed)}: config.json says so")
        held["continued"].append({"iteration": number} | now)
        run_folder.write_json(folder / "config.json", held)
    return held


def _restored(
    folder: Path, config: Config, dataset: Dataset, about: dict[str, Any]
) -> CondenseState | None:
    start = start_runs(config, dataset).state
    state = checkpoints.restore(folder, start, checkpoints.identity(about), say)
    number = 0 if state is None else checkpoints.done(state)
    say(f"{folder} goes on at iteration {number} of {config.iterations}")
    return state


def _unwritten(folder: Path, error: OSError) -> UserError:
    saved = checkpoints.numbers(folder)
    kept = f"; {saved[-1]} iterations are kept: mend that, then add --resume" if saved else ""
    return UserError(f"{folder} cannot be written: {error.strerror or error}{kept}")


# --- the work -------------------------------------------------------------------------------------


def _work(
    command: Condense,
    config: Config,
    dataset: Dataset,
    about: dict[str, Any],
    state: CondenseState | None,
) -> None:
    """Condenses from `state` on, and writes what comes of it."""
    before = 0 if state is None else checkpoints.done(state)
    with stopping() as stopped, progress(config.iterations, "iteration", before) as bar:
        rows = Rows(command.out, config, bar, time.perf_counter() - _seconds(command.out))
        saver = Saver(command.out, about, command.checkpoint_every, stopped)
        watch = Watch(_print_memory, rows.write, saver.due, saver.save)
        try:
            synthetic = condense_dataset(config, dataset, watch, state)
        except DivergedError as error:
            _finish(command.out, error.synthetic, about)
            raise
        _finish(command.out, synthetic, about)


@dataclasses.dataclass
class Saver:
    """Saves checkpoints where they are due, or where a signal came, which it then obeys.

    Attributes:
        folder: of the run.
        about: what its config.json says.
        every: iterations from one to the next, 0 for none; `None` is as many as take `SECONDS`.
        stopped: the signal that came, or `None`.
        last: the clock at the last one.
        since: iterations since.
    """

    folder: Path
    about: dict[str, Any]
    every: int | None
    stopped: Callable[[], str | None]
    last: float = dataclasses.field(default_factory=time.monotonic)
    since: int = 0

    def due(self) -> bool:
        """Whether to save after this iteration; called once after each."""
        self.since += 1
        by_time = time.monotonic() - self.last >= SECONDS
        due = by_time if self.every is None else self.since == self.every
        return due or self.stopped() is not None

    def save(self, state: CondenseState) -> None:
        """Saves; raises `StoppedError` if a signal came."""
        checkpoints.save(self.folder, state, checkpoints.identity(self.about))
        self.last, self.since = time.monotonic(), 0
        if name := self.stopped():
            number, total = checkpoints.done(state), self.about["settings"]["iterations"]
            raise StoppedError(f"stopped by {name} after iteration {number} of {total}", name)


def _finish(folder: Path, synthetic: Synthetic, about: dict[str, Any]) -> None:
    """All that a finished run has, synthetic.npz last, for it says that the run is finished."""
    run_folder.flush(folder / "metrics.jsonl")
    with run_folder.atomic(folder / "grid.png") as draft:
        pictures.save_grid(draft, synthetic, 0)
    run_folder.write_synthetic(folder, synthetic, about)
    checkpoints.discard(folder)
    if synthetic.whole:  # else the run before is the only one with a result
        run_folder.drop_replaced(folder)


@contextlib.contextmanager
def stopping() -> Iterator[Callable[[], str | None]]:
    """While it lasts, SIGTERM and Ctrl-C only leave their name with the function given.

    The second one does what it always does; those that are ignored (nohup) stay so.
    """
    came: list[str] = []
    before: dict[int, Any] = {}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def handle(number: int, _: Any) -> None:
        came.append(signal.Signals(number).name)
        restore()
        with contextlib.suppress(OSError):  # print may be at work already, or nobody listen
            os.write(2, b"\nfinishing this iteration; once more to leave at once\n")

    if threading.current_thread() is threading.main_thread():  # else none can be set
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, handle)
    try:
        yield lambda: came[0] if came else None
    finally:
        restore()


# --- what is logged -------------------------------------------------------------------------------


def _print_memory(memory: Memory) -> None:
    data, temporary = (size / 2**20 for size in memory)
    parts = f"data set and images {data:.0f}, at work {temporary:.0f}"
    say(f"memory: {data + temporary:.0f} MiB ({parts})")


def _seconds(folder: Path) -> float:
    """Seconds that the iterations took which are behind a resumed run."""
    path = folder / "metrics.jsonl"
    try:
        lines = path.read_text().splitlines()
        return float(json.loads(lines[-1])["seconds"]) if lines else 0.0
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} is damaged: start anew with --replace") from error


class Rows(NamedTuple):
    """Where the iterations' lines go.

    Attributes:
        folder: of the run.
        config: its settings.
        bar: moves on with each iteration.
        began: the clock when the run began, had it never been interrupted.
    """

    folder: Path
    config: Config
    bar: tqdm
    began: float

    def write(self, number: int, info: IterationInfo) -> None:
        """One iteration's lines in metrics.jsonl, one a set that goes on, and a step of the bar."""
        means = jax.tree.map(lambda part: part.mean(-1), info.match)
        rows = [
            {
                "iteration": number,
                "seed": seed,
                **swept(self.config, rates),
                "loss": float(means.loss[at]),
                "intra": float(means.intra[at]),
                "inter": float(means.inter[at]),
                "inner_epochs": info.inner_epochs[at].tolist(),
                "rose": info.rose[at].tolist(),
                "seconds": round(time.perf_counter() - self.began, 3),
            }
            for at, (seed, rates) in enumerate(sets(self.config))
            if info.finite[at].all()
        ]
        run_folder.append_metrics(self.folder, rows)
        losses = [row["loss"] for row in rows]
        self.bar.set_postfix(loss=f"{np.mean(losses):.4g}" if losses else "nan", refresh=False)
        self.bar.update()
