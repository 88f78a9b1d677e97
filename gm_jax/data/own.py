"""A user's own images: a folder of pictures by class, or an `.npz` of arrays."""

from pathlib import Path

import numpy as np
from jaxtyping import Shaped, UInt8

from gm_jax.data.archives import read_npz
from gm_jax.data.images import Dataset, by_class, place_in_class
from gm_jax.data.prepared import Source
from gm_jax.errors import UserError, require

HELD_OUT = 5
"""Where there is no test split, every fifth image of a class is held out for the test."""

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


def load_folder(folder: Path, size: int) -> Dataset:
    """Pictures `folder/CLASS/*`, or `folder/train/CLASS/*` and `folder/test/CLASS/*`.

    Each is turned upright, cut to its middle square and resized; grey if all of them are grey.
    Without a test split every fifth picture of a class, by name, is the test.

    Args:
        folder: holds a folder a class; classes are numbered by name.
        size: height and width of the images.

    Raises:
        UserError: no classes, a class without pictures, or a picture that cannot be read.
    """
    source = folder_source(folder, size)
    labels = np.repeat(np.arange(len(source.counts)), source.counts)
    images = np.concatenate([source.rows(label) for label in range(len(source.counts))])
    rows = by_class(images, labels, len(source.counts))
    return Dataset(source.name, source.class_names, rows, source.test_images, source.test_labels)


def folder_source(folder: Path, size: int) -> Source:
    """The same, one class at a time.  Only the test images are in memory.

    That all pictures are grey is known only when all were read: they are then read twice.
    """
    train, tests = _splits(folder)
    names = tuple(train)
    _check_splits(folder, names, sum(map(len, tests.values())))
    every = [path for paths in (*train.values(), *tests.values()) for path in paths]
    channels = 1 if all(_is_grey(_read_one(path, size)) for path in every) else 3
    read = lambda paths: np.stack([_read_one(path, size)[..., :channels] for path in paths])
    test_labels = np.repeat(np.arange(len(names)), [len(tests[name]) for name in names])
    return Source(
        name=str(folder),
        class_names=names,
        counts=tuple(len(train[name]) for name in names),
        rows=lambda label: read(train[names[label]]),
        test_images=read([path for name in names for path in tests[name]]),
        test_labels=test_labels.astype(np.int32),
    )


def _splits(folder: Path) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
    """Pictures to train on and to test on, by class, classes by name."""
    if all((folder / part).is_dir() for part in ("train", "test")):
        train, tests = _pictures(folder / "train"), _pictures(folder / "test")
        if unknown := sorted(set(tests) - set(train)):
            raise UserError(f"{folder / 'test' / unknown[0]}: no such class in {folder / 'train'}")
        return train, {name: tests.get(name, []) for name in train}
    found, held_out = _pictures(folder), HELD_OUT - 1
    train = {
        name: [path for at, path in enumerate(paths) if at % HELD_OUT != held_out]
        for name, paths in found.items()
    }
    return train, {name: paths[held_out::HELD_OUT] for name, paths in found.items()}


def _is_grey(image: UInt8[np.ndarray, "h w 3"]) -> bool:
    return bool((image == image[..., :1]).all())


def load_npz(path: Path) -> Dataset:
    """Arrays `images` [n, h, w] or [n, h, w, channel] uint8 and `labels` [n], whole numbers.

    `test_images` and `test_labels` are the test split; without them every fifth image of a class
    is.  `class_names` names the classes.  Nothing pickled is read.

    Raises:
        UserError: an array is missing, or not of that kind; a class without an image.
    """
    arrays = read_npz(path)
    images, labels = _checked(path, arrays, "images", "labels")
    classes = int(labels.max()) + 1
    if classes > len(labels):
        raise UserError(f"{path}: labels up to {classes - 1}, but {len(labels)} images")
    named = arrays.get("class_names", np.arange(classes).astype(str))
    if named.dtype.kind not in "US" or named.ndim != 1:
        raise UserError(f"{path}: class_names are {named.dtype} {named.shape}, must be [n] strings")
    names = tuple(map(str, named))
    if len(set(names)) < len(names):
        raise UserError(f"{path}: a class name comes twice in {', '.join(names)}")
    if len(names) < classes:
        raise UserError(f"{path}: {len(names)} class_names, labels up to {classes - 1}")
    if "test_images" not in arrays and "test_labels" in arrays:
        raise UserError(f"{path} has test_labels without test_images")
    if "test_images" not in arrays:
        return _dataset(path, names, *hold_out(images, labels))
    test = _checked(path, arrays, "test_images", "test_labels")
    if test[0].shape[1:] != images.shape[1:] or test[1].max() >= len(names):
        raise UserError(f"{path}: test images or labels do not fit the others")
    return _dataset(path, names, (images, labels), test)


def hold_out(
    images: UInt8[np.ndarray, "n h w channel"], labels: Shaped[np.ndarray, " n"]
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """(train, test), each images and labels: every fifth of a class is test, in their order."""
    test = place_in_class(labels) % HELD_OUT == HELD_OUT - 1
    return (images[~test], labels[~test]), (images[test], labels[test])


def _dataset(
    source: Path,
    names: tuple[str, ...],
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
) -> Dataset:
    _check_splits(source, names, len(test[0]))
    rows = by_class(*train, len(names))
    return Dataset(str(source), names, rows, test[0], test[1].astype(np.int32))


def _check_splits(source: Path, names: tuple[str, ...], tests: int) -> None:
    if len(names) < 2:
        raise UserError(f"{source}: two classes at least are needed, there is {len(names)}")
    if tests == 0:
        raise UserError(f"{source}: no images for the test; give a class {HELD_OUT} or more")


def _pictures(folder: Path) -> dict[str, list[Path]]:
    """The pictures of each class, by name."""
    found = {}
    for sub in sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")):
        found[sub.name] = sorted(
            p for p in sub.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")
        )
        if not found[sub.name]:
            raise UserError(f"{sub} holds no pictures ({', '.join(SUFFIXES)})")
    if not found:
        raise UserError(f"{folder} holds no folders of pictures, one a class")
    return found


def _read_one(path: Path, size: int) -> UInt8[np.ndarray, "h w 3"]:
    image, operations = require("PIL.Image", "pictures"), require("PIL.ImageOps", "pictures")
    try:
        with image.open(path) as picture:
            upright = operations.exif_transpose(picture)
            if upright.mode.startswith("I;16"):
                upright = image.fromarray(_eight_bits(np.asarray(upright)))
            if upright.mode in ("I", "F"):
                raise ValueError(f"pixels of mode {upright.mode}: save them with 8 or 16 bits")
            square = operations.fit(upright.convert("RGB"), (size, size), image.Resampling.BICUBIC)
            return np.asarray(square)
    except Exception as error:  # whatever a damaged picture makes its reader raise
        raise UserError(f"{path} cannot be read as a picture: {error}") from error


def _eight_bits(levels: np.ndarray) -> UInt8[np.ndarray, "h w"]:
    """16-bit grey levels scaled; PIL alone would cut them off at 255."""
    return np.round(levels / 257).astype(np.uint8)


def _checked(path: Path, arrays: dict, *names: str) -> tuple[np.ndarray, np.ndarray]:
    """Images with a channel axis, and labels, of the kinds that are asked for."""
    for name in names:
        if name not in arrays:
            raise UserError(f"{path} holds no {name!r}: there are {', '.join(arrays) or 'none'}")
    images, labels = (arrays[name] for name in names)
    grey = images.ndim == 3
    if images.dtype != np.uint8 or not (grey or (images.ndim == 4 and images.shape[-1] in (1, 3))):
        raise UserError(
            f"{path}: {names[0]} are {images.dtype} {images.shape}, "
            "must be uint8 [n, height, width] or [n, height, width, 1 or 3]"
        )
    if not np.issubdtype(labels.dtype, np.integer) or labels.shape != images.shape[:1]:
        raise UserError(
            f"{path}: {names[1]} are {labels.dtype} {labels.shape}, "
            f"must be {len(images)} whole numbers"
        )
    if images.size == 0:
        raise UserError(f"{path}: {names[0]} are {images.shape}: there must be some, with pixels")
    if labels.min() < 0:
        raise UserError(f"{path}: {names[1]} {labels.min()}: must be 0 or more")
    return images[..., None] if grey else images, labels
