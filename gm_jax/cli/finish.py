"""`gm-jax finish`: an unfinished run ends where its last checkpoint is."""

import dataclasses
from pathlib import Path
from typing import Any

from gm_jax import api
from gm_jax.build import start_sets
from gm_jax.cli.commands import Condense, Finish
from gm_jax.cli.condense import prepare, write_result
from gm_jax.cli.opening import Run, leave, locked, refuse_another_run
from gm_jax.condensed import DivergedError
from gm_jax.core.loop import iterations_done
from gm_jax.core.method import State
from gm_jax.errors import UserError
from gm_jax.storage import checkpoints, files, reading, run_folder


def finish(command: Finish) -> None:
    """Writes what a run of as many iterations as are done would have written.

    A finished run stays as it is.

    Raises:
        UserError: the folder holds no run with a good checkpoint, the run's variant or data have
            changed since (all files stay as they were), or sets diverged (all is written).
    """
    folder = command.run
    about = reading.read_about(folder)
    if folder.is_file():
        raise UserError(f"{folder} is a file: name a run folder")
    with locked(folder):
        if run_folder.finished(folder):
            leave(folder)
            return
        run = _planned(folder, run_folder.as_planned(about))
        state = _last(run)
        done = iterations_done(state)
        record = reading.variant_of(run.about)
        condensed = api.finish(run.config, run.dataset, state, run.variant, record)
        condensed = condensed._replace(config=dataclasses.replace(run.config, iterations=done))
        ended = run_folder.ended(run.about, done)
        files.write_json(folder / "config.json", ended)
        write_result(run._replace(about=ended), condensed)
    if condensed.diverged:
        raise DivergedError(condensed)
    print(f"finished after {done} of {run.config.iterations} iterations: {folder}")


def _planned(folder: Path, about: dict[str, Any]) -> Run:
    """The run as it was begun; refused if it could not be resumed."""
    named = reading.variant_of(about)
    variant = None if named is None else named.name
    run = prepare(Condense(reading.config_of(about), folder, about.get("recipe"), variant))
    refuse_another_run(run)
    return run._replace(about=about)


def _last(run: Run) -> State:
    """The state of the last good checkpoint."""
    start = start_sets(run.config, run.dataset, run.variant).state
    state = checkpoints.restore(run.folder, start, run_folder.identity(run.about))
    if state is None or not iterations_done(state):
        raise UserError(f"{run.folder} has no iteration to end at: nothing to finish")
    return state
