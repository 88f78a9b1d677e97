"""Data sets written once, class by class, and then read where they lie on disk.

FOLDER/manifest.json    class names, counts, statistics, and digests of the arrays
FOLDER/train.npy        uint8 [C, N, height, width, channel], row c filled up to counts[c]
FOLDER/test_images.npy  uint8 [M, height, width, channel]
FOLDER/test_labels.npy  int32 [M]

Writing holds one class in memory, reading none: `train.npy` is memory-mapped, and each process of a
run touches only the rows of its own classes.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Int, UInt8

from gm_jax.data.digests import sha256
from gm_jax.data.images import ClassImages, Dataset, count_levels, mean_and_std
from gm_jax.disk import flush, new_folder
from gm_jax.errors import UserError

FORMAT = "gm_jax prepared data set, 1"

MANIFEST = "manifest.json"


class Source(NamedTuple):
    """What a data set is written from.

    Attributes:
        name: of the data set.
        class_names: C strings.
        counts: images of each class.
        rows: `label -> uint8 [count, height, width, channel]`, called once for each class in order.
        test_images: uint8 `[M, height, width, channel]`.
        test_labels: int32 `[M]`.
        statistics: mean and standard deviation of each channel, of pixels in 0..1; `None` measures
            them.
        handwritten_digits: as in `Dataset`.
    """

    name: str
    class_names: tuple[str, ...]
    counts: tuple[int, ...]
    rows: Callable[[int], UInt8[np.ndarray, "n h w channel"]]
    test_images: UInt8[np.ndarray, "M h w channel"]
    test_labels: Int[np.ndarray, " M"]
    statistics: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    handwritten_digits: bool = False


def of_dataset(dataset: Dataset) -> Source:
    """A data set that is at hand."""
    train = dataset.train
    counts = np.asarray(train.counts).tolist()
    statistics = [tuple(np.asarray(part, float).tolist()) for part in (train.mean, train.std)]
    return Source(
        dataset.name,
        dataset.class_names,
        tuple(counts),
        lambda label: np.asarray(train.images[label, : counts[label]]),
        np.asarray(dataset.test_images),
        np.asarray(dataset.test_labels),
        (statistics[0], statistics[1]),
        dataset.handwritten_digits,
    )


def write(folder: Path, source: Source) -> None:
    """Writes a data set; the folder appears when it is complete.

    Raises:
        UserError: the folder exists and is not empty.
        OSError: it cannot be written.
    """
    with new_folder(folder) as draft:
        _write(draft, source)
        for path in draft.iterdir():
            flush(path)  # else a power cut may leave half a data set


def _write(draft: Path, source: Source) -> None:
    mean, std = _write_rows(draft / "train.npy", source)
    mean, std = source.statistics or (mean, std)
    np.save(draft / "test_images.npy", source.test_images)
    np.save(draft / "test_labels.npy", source.test_labels.astype(np.int32))
    train = np.load(draft / "train.npy", mmap_mode="r")
    counts = np.asarray(source.counts, np.int32)
    manifest = {
        "format": FORMAT,
        "name": source.name,
        "class_names": list(source.class_names),
        "counts": counts.tolist(),
        "mean": list(mean),
        "std": list(std),
        "handwritten_digits": source.handwritten_digits,
        "train": sha256(train, counts),
        "test": sha256(source.test_images, source.test_labels.astype(np.int32)),
    }
    (draft / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")


def _write_rows(path: Path, source: Source) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Writes all classes; the mean and standard deviation of their pixels."""
    shape = source.test_images.shape[1:]
    size = (len(source.counts), max(source.counts), *shape)
    rows = np.lib.format.open_memmap(path, "w+", np.uint8, size)
    levels = np.zeros((shape[-1], 256), np.int64)
    for label, count in enumerate(source.counts):
        images = source.rows(label)
        if images.shape != (count, *shape) or images.dtype != np.uint8:
            raise UserError(
                f"class {label} is {images.dtype} {images.shape}, must be uint8 {(count, *shape)}"
            )
        rows[label, :count] = images
        levels += count_levels(images)
    rows.flush()
    return mean_and_std(levels)


def is_prepared(folder: Path) -> bool:
    """Whether a folder was written by `write`."""
    try:
        return FORMAT.partition(",")[0] in (folder / MANIFEST).read_text(errors="replace")
    except OSError:
        return False


def name(folder: Path) -> str:
    """The name of the data set that `write` wrote.

    Raises:
        UserError: the manifest is damaged.
    """
    try:
        return str(json.loads((folder / MANIFEST).read_text())["name"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise _damaged(folder, error) from error


def read(folder: Path) -> Dataset:
    """A data set that `write` wrote; its images stay on disk until they are needed.

    Files are compared with the manifest by shape and type.  That the pixels are those of its
    digests is not looked at: that would read them all.

    Raises:
        UserError: it is damaged, or of another version.
    """
    try:
        held = json.loads((folder / MANIFEST).read_text())
        if held["format"] != FORMAT:
            raise UserError(f"{folder} is a {held['format']}, not a {FORMAT}: prepare it again")
        arrays = {
            name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            for name in ("train", "test_images", "test_labels")
        }
        return _checked(held, **arrays)
    except UserError:
        raise
    except Exception as error:  # whatever damaged files make their readers raise
        raise _damaged(folder, error) from error


def _damaged(folder: Path, error: Exception) -> UserError:
    return UserError(f"{folder} is damaged ({error}): prepare it again")


def _checked(held: Any, train: np.ndarray, test_images: np.ndarray, test_labels: np.ndarray):
    """Raises `ValueError` unless the arrays are those of the manifest."""
    names, counts = tuple(map(str, held["class_names"])), np.array(held["counts"], np.int32)
    mean, std = (np.array(held[name], float) for name in ("mean", "std"))
    classes, most, *shape = train.shape
    if train.dtype != np.uint8 or len(shape) != 3 or not 2 <= classes == len(names):
        raise ValueError(f"train.npy is {train.dtype} {train.shape}")
    if counts.shape != (classes,) or counts.min() < 1 or counts.max() != most:
        raise ValueError("counts do not fit train.npy")
    if mean.shape != std.shape or mean.shape != (shape[-1],) or not (std > 0).all():
        raise ValueError("mean or std do not fit train.npy")
    if test_images.dtype != np.uint8 or list(test_images.shape[1:]) != shape:
        raise ValueError(f"test_images.npy is {test_images.dtype} {test_images.shape}")
    if test_labels.dtype != np.int32 or test_labels.shape != test_images.shape[:1]:
        raise ValueError(f"test_labels.npy is {test_labels.dtype} {test_labels.shape}")
    if not 0 <= test_labels.min() <= test_labels.max() < classes:
        raise ValueError("test labels are not classes")
    rows = ClassImages(train, counts, jnp.asarray(mean, float), jnp.asarray(std, float))
    digests = {"train": str(held["train"]), "test": str(held["test"])}
    digits = bool(held["handwritten_digits"])
    return Dataset(
        str(held["name"]), names, rows, np.asarray(test_images), test_labels, digits, digests
    )
