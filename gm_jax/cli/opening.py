"""The run folder of `gm-jax condense`: begun, restored, left alone or refused."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from gm_jax.build import start_sets
from gm_jax.checks import flag
from gm_jax.cli.commands import Condense
from gm_jax.cli.terminal import say
from gm_jax.condensed import DivergedError
from gm_jax.config import Config, Devices
from gm_jax.core.loop import iterations_done
from gm_jax.core.method import State, Variant
from gm_jax.data.images import Dataset
from gm_jax.errors import UserError
from gm_jax.parallel import hosts
from gm_jax.storage import checkpoints, files, locking, reading, replacing, run_folder


class Run(NamedTuple):
    """All that a run is made from.

    Attributes:
        folder: that it is written into.
        config: its settings.
        dataset: what is condensed.
        variant: the change of the method.
        about: what its config.json holds.
        devices: that it is spread over.
    """

    folder: Path
    config: Config
    dataset: Dataset
    variant: Variant
    about: dict[str, Any]
    devices: Devices


class Opened(NamedTuple):
    """A run folder that this process may write into.

    Attributes:
        run: with what config.json holds from now on.
        state: that it goes on from; `None` for the start, and in all processes but the first.
        finished: nothing is left to do.
    """

    run: Run
    state: State | None = None
    finished: bool = False


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """While it lasts, no other run writes into the folder."""
    with contextlib.ExitStack() as stack:
        hosts.on_first(lambda: stack.enter_context(locking.locked(folder)))
        yield


def open_run(run: Run, command: Condense) -> Opened:
    """Refuses a folder that is not to be written into; restores the run, or creates it."""
    state = None
    if command.resume and _began(run.folder):
        refuse_another_run(run)
        if run_folder.finished(run.folder):
            leave(run.folder)
            return Opened(run, finished=True)
        state = _restored(run)
    elif not (command.resume or command.replace):
        _refuse_to_replace(run.folder)
    try:
        if state is not None:
            return Opened(run._replace(about=_continued(run, iterations_done(state))), state)
        checkpoints.discard(run.folder)
        replacing.create(run.folder, run.about)
    except OSError as error:
        raise unwritten(run.folder, error) from error
    return Opened(run)


def shared(opened: Opened) -> State | None:
    """The state that the first process restored, in all of them."""
    run, state = opened.run, opened.state
    if not hosts.highest(state is not None):
        return None
    start = start_sets(run.config, run.dataset, run.variant).state if state is None else state
    return hosts.from_first(start)


def _began(folder: Path) -> bool:
    began = (folder / "config.json").exists()
    if not began:
        say(f"{folder} holds nothing to resume: starting")
    return began


def leave(folder: Path) -> None:
    """A finished run stays as it is, but for what a kill at its very end left; says so."""
    checkpoints.discard(folder)
    replacing.put_back(folder)
    condensed = reading.load_condensed(folder)
    if condensed.finished:
        replacing.drop_replaced(folder)
    if condensed.diverged:
        raise DivergedError(condensed)
    say(f"{folder} is finished: nothing to resume")


def _refuse_to_replace(folder: Path) -> None:
    if run_folder.finished(folder):
        raise UserError(f"--out {folder} already holds a run: name another, or add --replace")
    if saved := checkpoints.numbers(folder):
        raise UserError(
            f"--out {folder} holds an unfinished run of {saved[-1]} iterations: "
            "add --resume to go on, or --replace to start again"
        )


def refuse_another_run(run: Run) -> None:
    """Raises `UserError` if the folder's run has other settings, another variant, or other data."""
    held, ours = reading.read_about(run.folder), run.about
    if not run_folder.finished(run.folder):
        held = run_folder.as_planned(held)
    elif planned := held.get(run_folder.PLANNED):
        done = f"was ended after {held['settings']['iterations']} of {planned} iterations"
        raise UserError(f"{run.folder} {done}: name another --out, or add --replace")
    if held["format"] != ours["format"] and not run_folder.finished(run.folder):
        writer = f"gm_jax {held['versions']['gm_jax']}"
        raise UserError(f"{run.folder} was begun by {writer}: resume it with that version")
    same = "resume it with the same settings, or name another --out"
    for name, value in ours["settings"].items():
        if (before := held["settings"].get(name)) != value:
            raise UserError(
                f"{run.folder} was begun with {flag(name)} {before}, not {value}: {same}"
            )
    before, now = ((about["variant"] or {}) for about in (held, ours))
    if before.get("name") != now.get("name"):
        names = f"{before.get('name')}, not {now.get('name')}"
        raise UserError(f"{run.folder} was begun with --variant {names}: {same}")
    if before != now:
        module = now["name"].partition(":")[0]
        raise UserError(
            f"{run.folder} was begun with --variant {now['name']}, and {module} has changed since: "
            "restore it, or name another --out"
        )
    if held["data"]["train"] != ours["data"]["train"]:
        name = ours["data"]["name"]
        raise UserError(f"{run.folder} was begun with other images: {name} has changed")


def _continued(run: Run, number: int) -> dict[str, Any]:
    """What config.json holds from now on of a run that is resumed after `number` iterations."""
    found = reading.read_about(run.folder)
    held = run_folder.as_planned(found)
    now = {name: run.about[name] for name in ("versions", "platform", "commit")}
    last = held["continued"][-1] if held["continued"] else held
    if changed := [name for name in now if last[name] != now[name]]:
        say(f"{run.folder} resumes with other {', '.join(changed)}: recorded in config.json")
        held["continued"].append({"iteration": number} | now)
    if changed or held != found:
        files.write_json(run.folder / "config.json", held)
    return held


def _restored(run: Run) -> State | None:
    start = start_sets(run.config, run.dataset, run.variant).state
    state = checkpoints.restore(run.folder, start, run_folder.identity(run.about))
    number = 0 if state is None else iterations_done(state)
    say(f"{run.folder} resumes at iteration {number} of {run.config.iterations}")
    return state


def unwritten(folder: Path, error: OSError) -> UserError:
    """What is said when the disk is full, or the folder is gone."""
    saved = checkpoints.numbers(folder)
    kept = f"; {saved[-1]} iterations are kept: free it, then add --resume" if saved else ""
    return UserError(f"{folder} cannot be written: {error.strerror or error}{kept}")
