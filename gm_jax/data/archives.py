"""Archives from untrusted sources: nothing pickled is read, nothing expanded without bound."""

import math
import os
import zipfile
from pathlib import Path

import numpy as np

from gm_jax.errors import UserError

MEMBERS = 100
"""The most arrays that a file may hold."""

MOST_HEADER = 1 << 16
"""The most bytes that an array's header may have."""

HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
"""NumPy's readers of an array's header, by the version of its format."""


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an `.npz`, by name.

    What they claim to expand to is looked at first: it must be what their headers say, and fit in
    half of this machine's memory.

    Raises:
        UserError: the file is damaged, foreign, or would not fit.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if len(members) > MEMBERS:
                raise UserError(f"{path} holds {len(members)} arrays: at most {MEMBERS}")
            _check_size(path, members)
            for info in members:
                _check_header(archive, info)
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except UserError:
        raise
    except Exception as error:  # whatever a foreign or damaged file makes its readers raise
        raise UserError(f"{path} cannot be read as an .npz of plain arrays: damaged?") from error


def check_zip(path: Path) -> None:
    """Raises `UserError` if a file is a zip that expands to more than half of the memory."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            _check_size(path, archive.infolist())


def _check_size(path: Path, members: list[zipfile.ZipInfo]) -> None:
    expanded = sum(info.file_size for info in members)
    if expanded > memory_size() // 2:
        sizes = f"{expanded / 2**30:.0f} GiB of {path.stat().st_size / 2**20:.1f} MiB"
        raise UserError(f"{path} would expand to {sizes}: more than half of this machine's memory")


def memory_size() -> int:
    """Bytes of memory that this machine has; 16 GiB where it does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return 16 * 2**30


def _check_header(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
    """Raises `ValueError` unless an array is plain and its header agrees with its contents."""
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        shape, _, dtype = HEADERS[version](file, max_header_size=MOST_HEADER)
        values = info.file_size - file.tell()
    if dtype.hasobject or min(shape, default=0) < 0:
        raise ValueError("not a plain array")
    if math.prod(shape) * dtype.itemsize != values:
        raise ValueError("the header does not fit the contents")
