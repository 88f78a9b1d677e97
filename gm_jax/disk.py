"""What is on the disk itself, and not only in memory; folders that appear once complete."""

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path


def flush(path: Path) -> None:
    """Waits until a file's contents, or a folder's names, are on the disk itself."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder to fill, which takes the place of `folder` if the block ends without an error.

    Args:
        folder: that is not there, or is empty; a link is followed.
    """
    folder = folder.resolve()
    draft = folder.with_name(f".{folder.name}.{os.getpid()}.draft")
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


def _left_behind(folder: Path) -> list[Path]:
    """Drafts of this folder whose process was killed."""
    name = re.compile(re.escape(f".{folder.name}.") + r"([0-9]+)\.draft")
    found = [(path, name.fullmatch(path.name)) for path in folder.parent.iterdir()]
    return [path for path, match in found if match and not _is_alive(int(match[1]))]


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True
