"""Where caches lie; what is on the disk itself; folders that appear once they are complete."""

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from gm_jax.errors import UserError


def flush(path: Path) -> None:
    """Waits until a file's contents, or a folder's names, are on the disk itself."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def cache_folder() -> Path:
    """`$GM_JAX_CACHE`, or `$XDG_CACHE_HOME/gm_jax`, or `~/.cache/gm_jax`.

    Raises:
        UserError: it is in a home folder, and there is none.
    """
    try:
        if folder := os.environ.get("GM_JAX_CACHE"):
            return Path(folder).expanduser()
        return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "gm_jax"
    except RuntimeError as error:
        raise UserError("there is no home folder: name one for caches in GM_JAX_CACHE") from error


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder to fill, which takes the place of `folder` if the block ends without an error.

    Args:
        folder: that is not there, or is empty; a link is followed.

    Raises:
        UserError: it is neither, or the current folder.
    """
    folder = folder.resolve()
    if folder == Path.cwd():
        raise UserError(f"{folder} is the current folder: name another one")
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UserError(f"{folder} exists and is not an empty folder: name another")
    missing = [parent for parent in folder.parents if not parent.exists()]
    draft = folder.with_name(f".{folder.name}.{os.getpid()}.draft")
    shutil.rmtree(draft, ignore_errors=True)  # a killed process of this number left it
    draft.mkdir(parents=True)
    try:
        for left in _left_behind(folder):
            shutil.rmtree(left, ignore_errors=True)
        yield draft
        flush(draft)
        if folder.exists():
            folder.rmdir()
        os.replace(draft, folder)
        flush(folder.parent)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        for parent in missing:
            with contextlib.suppress(OSError):  # it holds the folder
                parent.rmdir()


def _left_behind(folder: Path) -> list[Path]:
    """Drafts of this folder whose process was killed."""
    name = re.compile(re.escape(f".{folder.name}.") + r"([0-9]+)\.draft")
    found = [(path, name.fullmatch(path.name)) for path in folder.parent.iterdir()]
    return [path for path, match in found if match and not _is_alive(int(match[1]))]


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):  # the latter is no process's number
        return False
    except PermissionError:  # another user's
        return True
    return True
