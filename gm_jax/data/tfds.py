"""The image sets of TensorFlow Datasets (TFDS): prepared once, then plain numpy arrays in a file.

The files that a set's authors publish are taken from the user's folder, from where a Linux
distribution puts them, or from where TFDS knows them; `files` checks them, and TFDS's own builder
reads and shuffles them.  What it serves is kept in the cache folder as an `.npz` such as
`own.load_npz` reads, and everything else is deleted.  From then on numpy is enough: neither TFDS
nor a network is needed.

TensorFlow is not needed at all.  TFDS calls it for a handful of things when it prepares these sets,
to open files and to write PNGs, and a stand-in does those: see `_stand_in`.
"""

import contextlib
import io
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from jaxtyping import Int, UInt8

from gm_jax.data import files
from gm_jax.data.images import Dataset, by_class
from gm_jax.disk import cache_folder
from gm_jax.errors import UserError, require
from gm_jax.published_settings import STATISTICS

log = logging.getLogger("gm_jax")

NAMES = tuple(STATISTICS)
"""The sets, by TFDS's names."""

FORMAT = 1
"""Version of the cache file, part of its name."""

ARRAYS = ("images", "labels", "test_images", "test_labels", "class_names")
"""What the cache file holds."""

PATIENCE = 20
"""Seconds that a host has to answer, and to send more of a file."""


def load(name: str) -> Dataset:
    """The set of that name, from the cache file; the first time it is prepared.

    The files are taken from `downloads/NAME` in the cache folder, as published, re-compressed or
    uncompressed, or from where Debian's package puts them, or else they are downloaded.

    Images of a class are in the builder's order, which is shuffled, always in the same way.  Of
    `svhn_cropped` the splits train and test are used, not extra; of `cifar100` the 100 fine labels.

    Args:
        name: one of `NAMES`.

    Raises:
        UserError: no network, the files do not hold what was published, the cache folder cannot be
            written, or the cache file is damaged.
    """
    path = cache_folder() / f"{name}-{FORMAT}.npz"
    if not path.exists():
        _prepare(name, path)
    return _read(name, path)


def _read(name: str, path: Path) -> Dataset:
    try:
        with np.load(path, allow_pickle=False) as file:
            images, labels, test_images, test_labels, names = (file[key] for key in ARRAYS)
    except Exception as error:  # whatever a damaged file makes its readers raise
        raise UserError(f"{path} is damaged: delete it, and {name} is prepared again") from error
    train = by_class(images, labels, len(names), STATISTICS[name])
    digits = name == "mnist"
    return Dataset(name, tuple(map(str, names)), train, test_images, test_labels, digits)


# --- preparing ------------------------------------------------------------------------------------


def _prepare(name: str, path: Path) -> None:
    """Writes the cache file atomically; everything else is in a temporary folder."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=f".{name}.", dir=path.parent, ignore_cleanup_errors=True
        ) as work:  # cleaned up as far as an error leaves TFDS's threads writing in it
            arrays = _build(name, Path(work), path.parent / "downloads" / name)
            draft = Path(work) / "arrays.npz"
            np.savez(draft, allow_pickle=False, **dict(zip(ARRAYS, arrays)))
            os.replace(draft, path)
    except OSError as error:
        raise UserError(
            f"the cache folder {path.parent} cannot be written: {error.strerror or error}; "
            "GM_JAX_CACHE names another"
        ) from error
    log.info("%s is kept in %s", name, path)


def _build(name: str, work: Path, given: Path) -> list[np.ndarray]:
    """`ARRAYS`, as TFDS's builder serves them.

    Args:
        name: one of `NAMES`.
        work: an empty folder, for the download and the builder's files.
        given: where users put the files themselves; it may be missing.
    """
    try:
        builder = _builder(name, work)
        known = _without_extra(builder.url_infos)
        found = _on_disk(name, known, given) or _download(name, known, given, work)
        _hand_over(builder, _unpack(name, known, found, work))
        splits = _splits(builder)
    except UserError:
        raise
    except Exception as error:  # whatever TFDS raises
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{name} cannot be prepared: {reason}") from error
    return [*splits["train"], *splits["test"], np.array(builder.info.features["label"].names)]


def _builder(name: str, work: Path) -> Any:
    with _quietly():
        # takes a second, and is not needed once the file is there
        tensorflow_datasets = require("tensorflow_datasets", "tfds")
        # the one format that TFDS reads without TensorFlow
        return tensorflow_datasets.builder(name, data_dir=work, file_format="array_record")


def _without_extra(urls: dict[str, Any]) -> dict[str, Any]:
    """Leaves out SVHN's split `extra`, which is not used: 1.3 of the 1.6 GB to download."""
    return {url: info for url, info in urls.items() if "extra" not in url}


def _on_disk(name: str, known: dict[str, Any], given: Path) -> list[files.Found] | None:
    """The files that the user put there, or else those that a Linux distribution did."""
    names = [info.filename for info in known.values()]
    folders = [given, files.FOLDERS[name]] if name in files.FOLDERS else [given]
    for folder in folders:
        if found := files.find(name, names, folder):
            log.info("%s: reading the files in %s", name, folder)
            return found
    return None


def _download(name: str, known: dict[str, Any], given: Path, work: Path) -> list[files.Found]:
    """The files from where TFDS knows them.

    Were TFDS to download them, it would try for minutes where there is no network, wait for ever
    on a host that stops answering, and go on in the background after an error.

    Raises:
        UserError: the host does not answer, or refuses; where to put the files by hand.
    """
    requests = require("requests", "tfds")  # not needed either once the file is there
    folder = work / "downloaded"
    folder.mkdir()
    total = sum(int(info.size) for info in known.values())
    found = []
    for url, info in known.items():
        host = urlsplit(url).netloc
        found.append(files.Found(folder / info.filename, f"from {host}"))
        try:
            with requests.get(url, stream=True, timeout=PATIENCE) as answer:
                answer.raise_for_status()
                sizes = f"{int(info.size) / 2**20:.1f} of {total / 2**20:.1f} MiB"
                log.info("%s: downloading %s, %s, from %s", name, info.filename, sizes, host)
                with found[-1].path.open("wb") as out:
                    out.writelines(answer.iter_content(2**20))
        except requests.RequestException as error:
            refused = isinstance(error, requests.HTTPError)
            wanted = ", ".join(sorted(info.filename for info in known.values()))
            raise UserError(
                f"{name} cannot be downloaded: {error if refused else f'{host} does not answer'}; "
                f"put {wanted} of {url.rpartition('/')[0]} into {given}, "
                "or use digits or mnist5k, which need no network"
            ) from error
    return found


def _unpack(
    name: str, known: dict[str, Any], found: list[files.Found], work: Path
) -> dict[str, Path]:
    """What each file holds, checked, by the URL that TFDS knows the file by."""
    folder = work / "unpacked"
    folder.mkdir()
    return {
        url: files.unpack(name, files.Published(info.filename, info.checksum), file, folder)
        for (url, info), file in zip(known.items(), found, strict=True)
    }


def _hand_over(builder: Any, paths: dict[str, Path]) -> None:
    """Gives the builder these paths where it would download and unpack; none for SVHN's extra."""
    splits_of = builder._split_generators

    def get(urls):
        return (
            {key: paths.get(urls[key]) for key in urls} if isinstance(urls, dict) else paths[urls]
        )

    def train_and_test(manager):
        manager.download = manager.download_and_extract = get
        splits = splits_of(manager)
        if isinstance(splits, dict):
            return splits
        return [split for split in splits if split.name != "extra"]

    builder._split_generators = train_and_test


def _splits(builder: Any) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Images and labels of the splits train and test."""
    with _quietly(), _without_tensorflow():
        import tensorflow_datasets

        settings = tensorflow_datasets.download.DownloadConfig(try_download_gcs=False)
        builder.download_and_prepare(download_config=settings)
        return {split: _arrays(builder, split) for split in ("train", "test")}


def _arrays(
    builder: Any, split: str
) -> tuple[UInt8[np.ndarray, "n h w channel"], Int[np.ndarray, " n"]]:
    source = builder.as_data_source(split)
    images = np.empty((len(source), *builder.info.features["image"].shape), np.uint8)
    labels = np.empty(len(source), np.int32)
    for at, example in enumerate(source):
        images[at], labels[at] = example["image"], example["label"]
    return images, labels


# --- what TFDS is spared --------------------------------------------------------------------------


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """TFDS draws bars, writes in bold, and warns of packages that it can do without."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def _without_tensorflow() -> Iterator[None]:
    """Gives TFDS the stand-in where it would import TensorFlow, unless that is imported already.

    Also where TensorFlow is installed: importing it would take a GPU's memory away from JAX.
    """
    from tensorflow_datasets.core.utils import lazy_imports_utils

    if "tensorflow" in sys.modules:
        yield
        return
    lazy = vars(lazy_imports_utils.tensorflow)
    lazy["_module"] = _stand_in()  # where etils keeps the module, once it has imported it
    try:
        yield
    finally:
        lazy.pop("_module", None)


def _stand_in() -> Any:
    """What TFDS calls of TensorFlow to prepare these sets: its files, PNG, and errors of theirs."""
    part = SimpleNamespace
    return part(
        executing_eagerly=lambda: True,
        io=part(gfile=part(GFile=open)),
        compat=part(as_text=str),
        image=part(encode_png=lambda pixels: part(numpy=lambda: _png(pixels))),
        errors=part(ResourceExhaustedError=(), UnimplementedError=()),  # `open` raises neither
    )


def _png(pixels: UInt8[np.ndarray, "h w channel"]) -> bytes:
    file = io.BytesIO()
    grey = pixels.shape[-1] == 1
    image = require("PIL.Image", "tfds")
    image.fromarray(pixels[..., 0] if grey else pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()
