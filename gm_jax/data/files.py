"""The files that the authors of a set publish, known by what they hold.

A file is good if it is the published one, byte for byte, and also if its contents are the published
ones: Linux distributions re-compress files, browsers and unpackers leave them uncompressed.
"""

import gzip
import hashlib
import logging
import math
import re
import tarfile
import zlib
from collections.abc import Container, Iterable
from pathlib import Path
from typing import NamedTuple

from gm_jax.errors import UserError

log = logging.getLogger("gm_jax")

CONTENTS: dict[str, dict[str, str]] = {
    "mnist": {
        "train-images-idx3-ubyte": "sha256:"
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "sha256:"
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte": "sha256:"
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "sha256:"
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
    "fashion_mnist": {
        "train-images-idx3-ubyte": "sha256:"
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte": "sha256:"
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3-ubyte": "sha256:"
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte": "sha256:"
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
    "cifar10": {
        "cifar-10-batches-bin/data_batch_1.bin": "sha1:aadd24acce27caa71bf4b10992e9e7b2d74c2540",
        "cifar-10-batches-bin/data_batch_2.bin": "sha1:c0ba65cce70568cd57b4e03e9ac8d2a5367c1795",
        "cifar-10-batches-bin/data_batch_3.bin": "sha1:1dd00a74ab1d17a6e7d73e185b69dbf31242f295",
        "cifar-10-batches-bin/data_batch_4.bin": "sha1:aab85764eb3584312d3c7f65fd2fd016e36a258e",
        "cifar-10-batches-bin/data_batch_5.bin": "sha1:26e2849e66a845b7f1e4614ae70f4889ae604628",
        "cifar-10-batches-bin/test_batch.bin": "sha1:67eb016db431130d61cd03c7ad570b013799c88c",
        "cifar-10-batches-bin/batches.meta.txt": "sha256:"
        "2ce042b1e0b48db4bb214408e6414ba18b2731c24af244f2d6c112fddf31af00",
    },
    "cifar100": {
        "cifar-100-binary/train.bin": "sha1:e207cd2e05b73b1393c74c7f5e7bea451d63e08e",
        "cifar-100-binary/test.bin": "sha1:8fb6623e830365ff53cf14adec797474f5478006",
        "cifar-100-binary/coarse_label_names.txt": "sha256:"
        "14e28b5b70e3d8a29704b0d9f8c5985cca5f3c3d08ea043dcc87a036df37a2b3",
        "cifar-100-binary/fine_label_names.txt": "sha256:"
        "4a53f81a8af29bb6aa646bfe2c455db1b061edfde82a39c0cfc313ef536c681b",
    },
}
"""Digests of what the files hold, uncompressed; counts and shapes follow from them.

Where they come from:

- `fashion_mnist`: computed from Debian's package.  Its files differ from the published ones in the
  gzip header alone: with the original name and time put back they have the SHA-256 that TFDS lists
  and the MD5 that the authors list.
- `mnist`: public programs that list them beside the SHA-256 of the compressed files, which are the
  ones that TFDS lists.
- `cifar10`, images: Apache MXNet, which checked with them what it unpacked from the authors' site.
- `cifar100`, images: Apache MXNet, for the archive on its own site; no second source is known.
- names of `cifar10` and `cifar100`: computed from the lists of names, one a line.

SVHN's are not known: its files compress their arrays themselves, and must be the published ones.
"""

FOLDERS: dict[str, Path] = {"fashion_mnist": Path("/usr/share/datasets/fashion-mnist")}
"""Where Linux distributions put sets: Debian's package `dataset-fashion-mnist`."""


class Published(NamedTuple):
    """A file as its authors publish it: its name, and its SHA-256."""

    name: str
    sha256: str


class Found(NamedTuple):
    """A file as it is here, yet to be checked.

    Attributes:
        path: the file, or the folder that an archive was unpacked to.
        where: for errors, such as "in /home/a/files" or "from example.org".
    """

    path: Path
    where: str

    def __str__(self) -> str:
        """Such as "train.bin in /home/a/files"."""
        return f"{self.path.name} {self.where}"


def find(name: str, wanted: Iterable[str], folder: Path) -> list[Found] | None:
    """The files that are wanted, in their order, or None unless the folder has all of them.

    Args:
        name: of the set.
        wanted: the names that the authors gave the files.
        folder: may be missing.
    """
    paths = {file: _find_one(name, file, folder) for file in wanted}
    if lacking := [file for file, path in paths.items() if path is None]:
        if len(lacking) < len(paths):
            log.info("%s: %s is not used, it lacks %s", name, folder, ", ".join(lacking))
        return None
    return [Found(path, f"in {folder}") for path in paths.values() if path is not None]


def unpack(name: str, published: Published, found: Found, out: Path) -> Path:
    """Checks a file, and writes what it holds into a folder.

    Args:
        name: of the set.
        published: the file as it should be.
        found: the file as it is: as published, re-compressed, or uncompressed.
        out: an existing folder.

    Returns:
        The uncompressed file; for an archive, the folder that it is unpacked to.

    Raises:
        UserError: the file is damaged, or holds something else.
    """
    exact = _is_published(name, published, found)
    if name not in CONTENTS:
        return found.path
    contents = _contents(name, published.name, found)
    if not exact:
        for key, data in contents.items():
            _check(name, found, key, data)
    for key, data in contents.items():
        (out / key).parent.mkdir(exist_ok=True)
        (out / key).write_bytes(data)
    return out if _is_archive(published.name) else out / published.name.removesuffix(".gz")


# --- finding --------------------------------------------------------------------------------------


def _find_one(name: str, file: str, folder: Path) -> Path | None:
    """As published or uncompressed, also with the dot that some unpackers put before `idx`."""
    plain = [file, file.removesuffix(".gz")]
    for spelling in plain + [re.sub(r"-(idx\d-)", r".\1", each) for each in plain]:
        if (folder / spelling).is_file():
            return folder / spelling
    if _is_archive(file) and (unpacked := folder / _root(name)).is_dir():
        return unpacked
    return None


def _is_archive(file: str) -> bool:
    return file.endswith(".tar.gz")


def _root(name: str) -> str:
    """The one folder in the set's archive."""
    return next(iter(CONTENTS[name])).partition("/")[0]


# --- checking -------------------------------------------------------------------------------------


def _is_published(name: str, published: Published, found: Found) -> bool:
    """Whether it is the published file, byte for byte; an error if it has to be."""
    if found.path.is_dir():
        return False
    try:
        with found.path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{found} cannot be read: {error.strerror or error}") from error
    if digest != published.sha256 and name not in CONTENTS:
        raise _wrong(name, found, f"its SHA-256 is {digest[:8]}..", published.sha256)
    return digest == published.sha256


def _check(name: str, found: Found, key: str, data: bytes) -> None:
    algorithm, _, wanted = CONTENTS[name][key].partition(":")
    digest = hashlib.new(algorithm, data, usedforsecurity=False).hexdigest()
    if digest != wanted:
        what = (
            f"it holds {_size(data)}" if key.endswith("ubyte") else f"its {_last(key)} is another"
        )
        kind = algorithm.replace("sha", "SHA-")
        raise _wrong(name, found, f"{what}, {kind} {digest[:8]}..", wanted)


def _wrong(name: str, found: Found, how: str, wanted: str) -> UserError:
    return UserError(f"{found} is not the file of {name}: {how}, must be {wanted[:8]}..")


def _size(data: bytes) -> str:
    """Such as "60000 x 28 x 28 values" of IDX: zeros, type and rank, the sizes, the values."""
    rank = data[3] if data[:3] == b"\0\0\x08" and len(data) > 3 else 0
    sizes = [int.from_bytes(data[at : at + 4], "big") for at in range(4, 4 + 4 * rank, 4)]
    if rank and len(data) == 4 + 4 * rank + math.prod(sizes):
        return f"{' x '.join(map(str, sizes))} values"
    return f"{len(data)} bytes"


def _last(key: str) -> str:
    return key.rpartition("/")[2]


# --- reading --------------------------------------------------------------------------------------


def _contents(name: str, file: str, found: Found) -> dict[str, bytes]:
    """What the file holds, by the keys of `CONTENTS`."""
    try:
        if not _is_archive(file):
            return {file.removesuffix(".gz"): _uncompressed(found.path.read_bytes())}
        keys = {_last(key): key for key in CONTENTS[name]}
        parts = (_folder if found.path.is_dir() else _archive)(found.path, keys)
    except (EOFError, zlib.error, gzip.BadGzipFile, tarfile.TarError) as error:
        reason = str(error).partition("\n")[0].rstrip(":")
        raise UserError(f"{found} is damaged: {reason}") from error
    except OSError as error:
        raise UserError(f"{found} cannot be read: {error.strerror or error}") from error
    if lacking := sorted(keys.keys() - parts.keys()):
        raise UserError(f"{found} is not the file of {name}: it lacks {', '.join(lacking)}")
    return {key: _lines(part, parts[part]) for part, key in keys.items()}


def _uncompressed(data: bytes) -> bytes:
    return gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data


def _archive(path: Path, wanted: Container[str]) -> dict[str, bytes]:
    """The files that are wanted, by their names without folders."""
    parts = {}
    with tarfile.open(path, "r:*") as tar:
        for member in tar:
            file = tar.extractfile(member) if member.isfile() else None
            if file and _last(member.name) in wanted:
                parts[_last(member.name)] = file.read()
    return parts


def _folder(path: Path, wanted: Iterable[str]) -> dict[str, bytes]:
    return {part: (path / part).read_bytes() for part in wanted if (path / part).is_file()}


def _lines(part: str, data: bytes) -> bytes:
    """Lists of names with one line ending, and without empty lines; other files as they are."""
    return b"".join(word + b"\n" for word in data.split()) if part.endswith(".txt") else data
