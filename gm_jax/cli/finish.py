"""`gm-jax finish`: an unfinished run ends where its last checkpoint is."""

import dataclasses
from pathlib import Path
from typing import Any

from gm_jax import api
from gm_jax.build import start_sets
from gm_jax.cli.commands import Finish
from gm_jax.cli.condense import write_result
from gm_jax.cli.opening import Run, locked, refuse_another_run
from gm_jax.condensed import DivergedError
from gm_jax.config import Devices
from gm_jax.core.loop import iterations_done
from gm_jax.core.method import unchanged
from gm_jax.data.loading import load
from gm_jax.errors import UserError
from gm_jax.storage import checkpoints, files, reading, run_folder
from gm_jax.variants import describe_named, load_variant


def finish(command: Finish) -> None:
    """Writes what a run of as many iterations as are done would have written.

    Raises:
        UserError: the folder holds no unfinished run with a checkpoint, the run's variant or data
            have changed since, or sets diverged (all files are written by then).
    """
    folder = command.run
    about = reading.read_about(folder)
    if folder.is_file():
        raise UserError(f"{folder} is a file: name a run folder")
    with locked(folder):
        if run_folder.finished(folder):
            raise UserError(f"{folder} is finished already")
        run = _run(folder, about)
        refuse_another_run(run)
        start = start_sets(run.config, run.dataset, run.variant).state
        state = checkpoints.restore(folder, start, run_folder.identity(about))
        if state is None:
            raise UserError(f"{folder} has no checkpoint: nothing to finish")
        ended = _ended(run._replace(about=about), iterations_done(state))
        record = reading.variant_of(about)
        condensed = api.finish(ended.config, run.dataset, state, run.variant, record)
        files.write_json(folder / "config.json", ended.about)
        write_result(ended, condensed)
    if condensed.diverged:
        raise DivergedError(condensed)
    planned = ended.about["planned_iterations"]
    print(f"finished after {ended.config.iterations} of {planned} iterations: {folder}")


def _run(folder: Path, about: dict[str, Any]) -> Run:
    """The run as it would begin now with the settings that the folder holds."""
    config = reading.config_of(about)
    dataset = load(config.dataset, config.image_size)
    named = reading.variant_of(about)
    variant = unchanged if named is None else load_variant(named.name)
    record = None if named is None else describe_named(named.name)
    now = run_folder.describe(config, dataset, record, about.get("recipe"))
    return Run(folder, config, dataset, variant, now, Devices())


def _ended(run: Run, done: int) -> Run:
    """The run with as many iterations as are done; config.json keeps how many were planned."""
    config = dataclasses.replace(run.config, iterations=done)
    settings = run.about["settings"]
    planned = run.about.get("planned_iterations", settings["iterations"])
    about = run.about | {"settings": settings | {"iterations": done}}
    return run._replace(config=config, about=about | {"planned_iterations": planned})
