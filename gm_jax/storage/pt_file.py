"""The `.pt` files of the published PyTorch programs, in and out.  PyTorch is asked for only here.

    {"data": [[images, labels], ...], "accs_all_exps": {network: [accuracy, ...]}}

a pair a set: float32 images [n, channel, height, width], normalised, class after class, and int64
labels.
"""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from gm_jax.condensed import Condensed
from gm_jax.config import Config
from gm_jax.data.archives import check_zip
from gm_jax.data.images import Dataset
from gm_jax.errors import UserError, require

_SCALAR = np._core.multiarray.scalar  # type: ignore[attr-defined]  # NumPy states no type of it

NUMBERS: list[Any] = [
    _SCALAR,
    (_SCALAR, "numpy.core.multiarray.scalar"),  # NumPy 1's name of it
    np.dtype,
    type(np.dtype(np.float64)),
    type(np.dtype(np.float32)),
]
"""What accuracies are pickled as that were computed by NumPy: numbers, and nothing else."""


def write(path: Path, condensed: Condensed, accuracies: dict[str, list[float]]) -> None:
    """All sets of a run.

    Args:
        path: file to write.
        condensed: the sets.
        accuracies: 0..1, by network, set after set.

    Raises:
        UserError: PyTorch is not installed.
        OSError: the file cannot be written.
    """
    torch = require("torch", "torch")
    images = torch.from_numpy(np.array(np.moveaxis(condensed.images, -1, 2), order="C"))
    labels = torch.from_numpy(condensed.labels.astype(np.int64))
    data = [[of_set.clone(), labels.clone()] for of_set in images]
    with path.open("wb") as file:  # PyTorch's own error, were it to open the file, says less
        torch.save({"data": data, "accs_all_exps": accuracies}, file)


def read(path: Path, dataset: Dataset) -> Condensed:
    """The sets of a file; their classes, mean and standard deviation are the data set's.

    Raises:
        UserError: PyTorch is not installed; the file is damaged, holds other things, or does not
            fit the data set.
    """
    torch = require("torch", "torch")
    try:
        check_zip(path)
        with torch.serialization.safe_globals(NUMBERS):
            held = torch.load(path, map_location="cpu", weights_only=True)  # executes nothing
        for tensor in (part for pair in held["data"] for part in pair):
            if tensor.nbytes > tensor.untyped_storage().nbytes():
                raise ValueError("a tensor that repeats its contents")
        pairs = [(np.asarray(x.detach()), np.asarray(y.detach())) for x, y in held["data"]]
    except UserError:
        raise
    except Exception as error:  # whatever a foreign or damaged file makes its reader raise
        raise UserError(
            f"{path} cannot be read as {{'data': [[images, labels], ...]}} of tensors"
        ) from error
    if not pairs:
        raise UserError(f"{path} holds no sets")
    sets = [_checked(path, dataset, *pair) for pair in pairs]
    images = np.stack([x for x, _ in sets]) if len({x.shape for x, _ in sets}) == 1 else None
    if images is None or any(not np.array_equal(y, sets[0][1]) for _, y in sets):
        raise UserError(f"{path}: its sets have different sizes")
    ipc = len(sets[0][1]) // len(dataset.class_names)
    return Condensed(
        images=images,
        labels=sets[0][1],
        mean=np.asarray(dataset.train.mean, np.float32),
        std=np.asarray(dataset.train.std, np.float32),
        class_names=dataset.class_names,
        iterations=np.full(len(sets), Config.iterations, np.int32),
        config=Config(dataset=dataset.name, ipc=ipc, seeds=len(sets)),
    )


def _checked(
    path: Path, dataset: Dataset, images: np.ndarray, labels: np.ndarray
) -> tuple[Float[np.ndarray, "n h w channel"], Int[np.ndarray, " n"]]:
    """One set in our layout, in the order of its classes."""
    h, w, channel = dataset.image_shape
    if images.ndim != 4 or images.shape[1:] != (channel, h, w):
        raise UserError(
            f"{path} holds images of {images.shape[1:]}, {dataset.name} has {(channel, h, w)}"
        )
    if not np.issubdtype(images.dtype, np.floating) or not np.isfinite(images).all():
        raise UserError(f"{path}: images are {images.dtype}, must be finite floats")
    classes = len(dataset.class_names)
    if not np.issubdtype(labels.dtype, np.integer) or labels.shape != images.shape[:1]:
        raise UserError(f"{path}: labels are {labels.dtype} {labels.shape}")
    ipc = len(labels) // classes
    order = np.argsort(labels, kind="stable")
    if ipc == 0 or not np.array_equal(labels[order], np.repeat(np.arange(classes), ipc)):
        raise UserError(f"{path}: not the same number of images of each of {classes} classes")
    images = np.moveaxis(images[order].astype(np.float32), 1, -1)
    return images, labels[order].astype(np.int32)
