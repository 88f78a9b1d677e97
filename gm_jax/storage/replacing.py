"""A run folder's beginning, and the finished run that was there before.

What can be lost is moved and deleted in an order that leaves a finished run at every moment: in the
folder, or in its `replaced/`.
"""

import contextlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gm_jax.disk import flush
from gm_jax.errors import UserError
from gm_jax.storage.files import write_json
from gm_jax.storage.locking import LOCK
from gm_jax.storage.reading import load_condensed
from gm_jax.storage.run_folder import FILES, finished


def create(folder: Path, about: dict[str, Any]) -> None:
    """The files that a run begins with; a finished run that is there is set aside.

    If all its sets diverged, the one that it replaced stays instead.  config.json, by which a run
    folder is known, is there at every moment.
    """
    if finished(folder) and not (finished(folder / "replaced") and _diverged(folder)):
        _set_aside(folder)
    discard(folder, FILES[1:])
    write_json(folder / "config.json", about)
    (folder / "metrics.jsonl").touch()
    flush(folder)


def _diverged(folder: Path) -> bool:
    """Whether a finished run has no set that did not diverge; a damaged one may have."""
    try:
        return not load_condensed(folder).finished
    except UserError:
        return False


def _set_aside(folder: Path) -> None:
    """Moves a finished run's files into `replaced/`, the one last that makes it a finished run."""
    aside = folder / "replaced"
    aside.mkdir(exist_ok=True)
    if finished(aside) or not (aside / "config.json").exists():
        discard(aside)  # else it is this run, cut off while it was moved
    shutil.copyfile(folder / "config.json", aside / "config.json")
    for name in FILES[1:]:
        if (folder / name).exists():
            os.replace(folder / name, aside / name)


def put_back(folder: Path) -> None:
    """Ends what a kill left of `_set_aside`: a finished run gets back what was moved of it."""
    aside = folder / "replaced"
    if (aside / "config.json").exists() and not finished(aside):
        for name in FILES[1:]:
            if (aside / name).exists():
                os.replace(aside / name, folder / name)


def drop_replaced(folder: Path) -> None:
    """Deletes the run that was set aside."""
    aside = folder / "replaced"
    (aside / "config.json").unlink(missing_ok=True)  # what is left by a kill is nobody's from now
    discard(aside, (*FILES, LOCK))
    with contextlib.suppress(OSError):  # there is none, or somebody keeps other files in it
        aside.rmdir()


def discard(folder: Path, names: Sequence[str] = FILES) -> None:
    """Deletes a run's files, and nothing else; the one first that makes it a finished run."""
    for name in reversed(names):
        (folder / name).unlink(missing_ok=True)
