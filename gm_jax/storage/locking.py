"""Locks of run folders: one writer at a time."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import filelock

from gm_jax.errors import UserError
from gm_jax.storage.files import drafts, read_json

LOCK = ".lock"
"""Held by the process that writes into a run folder."""


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Makes a run folder if there is none, and keeps every other writer out of it.

    Raises:
        UserError: it holds something else than a run, is in use, or cannot be written.
    """
    if folder.is_file():
        raise UserError(f"{folder} is a file: name a folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not _is_ours(folder):
            raise UserError(f"{folder} is not empty and holds no run: name another folder")
        lock = filelock.FileLock(folder / LOCK)
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise UserError(f"{folder} is in use by another gm-jax: wait, or name another") from error
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror or error}") from error
    try:
        for draft in drafts(folder):
            draft.unlink()  # a killed process left it
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def locked_for(path: Path, run: Path) -> Iterator[None]:
    """Keeps every other writer out of a run folder, if `path` lies in it.

    Raises:
        UserError: the folder is in use, or cannot be written.
    """
    inside = path.resolve().parent == run.resolve()
    is_run = (run / "config.json").exists() and _is_ours(run)
    with locked(run) if inside and is_run else contextlib.nullcontext():
        yield


def _is_ours(folder: Path) -> bool:
    """Whether a folder is empty, or its config.json is a run's: others have files of that name."""
    if not {path.name for path in folder.iterdir()} - {d.name for d in drafts(folder)} - {LOCK}:
        return True
    try:
        return {"format", "settings"} <= set(read_json(folder / "config.json"))
    except (UserError, TypeError):
        return False
