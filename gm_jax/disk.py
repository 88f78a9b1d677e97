"""What is on the disk itself, and not only in the operating system's memory."""

import os
from pathlib import Path


def flush(path: Path) -> None:
    """Waits until a file's contents, or a folder's names, are on the disk itself."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
