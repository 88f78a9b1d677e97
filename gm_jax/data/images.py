"""Labelled images, class by class: uint8 on the device.

Pixels stay uint8 until a batch is drawn; networks see `(pixel / 255 - mean) / std`.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped, UInt8

from gm_jax.data.archives import memory_size
from gm_jax.data.spread import HERE, Spread
from gm_jax.errors import UserError


class ClassImages(NamedTuple):
    """A labelled set, a row a class.

    Attributes:
        images: uint8 `[C, N, height, width, channel]`; only the first `counts[c]` of row c count.
            On devices, or with the host: a NumPy array to draw from eagerly, in memory or on disk,
            or `host.HostImages` for programs.
        counts: int32 `[C]`, images of each class, at least 1.
        mean: float `[channel]`, of pixels in 0..1.
        std: float `[channel]`.
        spread: where the classes are: all are rows here, or a device's share of them.
    """

    images: UInt8[Array | np.ndarray, "C N h w channel"]
    counts: Int[Array | np.ndarray, " C"]
    mean: Float[Array, " channel"]
    std: Float[Array, " channel"]
    spread: Spread = HERE


Labels = Int[Array, "*groups n"] | Float[Array, "*groups n classes"]
"""A class each, -1 for padding; or a distribution over classes each, all 0 for padding."""


class Batch(NamedTuple):
    """Images and their labels, in any number of groups.

    Attributes:
        x: normalised images, float `[..., n, height, width, channel]`.
        y: labels, int32 `[..., n]`, -1 where there is padding and no image; or probabilities, float
            `[..., n, classes]`, all 0 where there is padding.
    """

    x: Float[Array, "*groups n h w channel"]
    y: Labels


class Dataset(NamedTuple):
    """A data set: what is condensed, and what the result is tested on.

    Attributes:
        name: as the command line knows it.
        class_names: C strings.
        train: the training split, class by class.
        test_images: uint8 `[M, height, width, channel]`.
        test_labels: int32 `[M]`.
        handwritten_digits: whether evaluation uses MNIST's protocol (augmentation, 1000 epochs).
        digests: SHA-256 of `train` and `test`, where they are known.
    """

    name: str
    class_names: tuple[str, ...]
    train: ClassImages
    test_images: UInt8[np.ndarray, "M h w channel"]
    test_labels: Int[np.ndarray, " M"]
    handwritten_digits: bool = False
    digests: dict[str, str] | None = None

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width, channel."""
        height, width, channel = self.test_images.shape[1:]
        return height, width, channel


# --- pixels ---------------------------------------------------------------------------------------


def normalise(
    images: UInt8[Array, "*n h w channel"] | Float[Array, "*n h w channel"],
    mean: Float[Array, " channel"],
    std: Float[Array, " channel"],
) -> Float[Array, "*n h w channel"]:
    """(pixel / 255 - mean) / std, channel by channel.

    Examples:
        >>> pixels = jnp.array([0, 255], jnp.uint8).reshape(2, 1, 1, 1)
        >>> normalise(pixels, jnp.array([0.5]), jnp.array([0.25])).ravel().tolist()
        [-2.0, 2.0]
    """
    shape = (1,) * (images.ndim - 1) + (-1,)
    return (images.astype(mean.dtype) / 255 - mean.reshape(shape)) / std.reshape(shape)


def denormalise(
    images: Float[np.ndarray, "*n h w channel"],
    mean: Float[np.ndarray, " channel"],
    std: Float[np.ndarray, " channel"],
) -> UInt8[np.ndarray, "*n h w channel"]:
    """The inverse of `normalise`, clipped to 0..255 and rounded: for pictures only."""
    pixels = (np.asarray(images) * np.asarray(std) + np.asarray(mean)) * 255
    return np.clip(np.round(pixels), 0, 255).astype(np.uint8)


# --- building sets --------------------------------------------------------------------------------


def by_class(
    images: UInt8[np.ndarray, "n h w channel"],
    labels: Shaped[np.ndarray, " n"],
    classes: int,
    statistics: tuple[tuple[float, ...], tuple[float, ...]] | None = None,
) -> ClassImages:
    """Images sorted into rows by class, in their order, padded to the largest class.

    Args:
        images: uint8 pixels.
        labels: whole numbers, 0 <= label < classes.
        classes: C.
        statistics: (mean, std) a channel; `None` measures them on these images.

    Raises:
        UserError: labels of another kind, or a class without an image.
    """
    if not np.issubdtype(labels.dtype, np.integer):
        raise UserError(f"labels are {labels.dtype}, must be whole numbers")
    if len(labels) == 0 or labels.min() < 0 or labels.max() >= classes:
        raise UserError(f"labels must be 0 to {classes - 1}")
    counts = np.bincount(labels.astype(np.int64), minlength=classes)
    if counts.min() == 0:
        raise UserError(f"class {counts.argmin()} of 0..{classes - 1} has no image: each needs one")
    padded = classes * int(counts.max()) * math.prod(images.shape[1:])
    if padded > memory_size() // 2:
        raise UserError(
            f"{classes} classes padded to the largest one's {counts.max()} images take "
            f"{padded / 2**30:.0f} GiB: more than half of this machine's memory"
        )
    rows = np.zeros((classes, counts.max(), *images.shape[1:]), np.uint8)
    for label, count in enumerate(counts):
        rows[label, :count] = images[labels == label]
    mean, std = statistics or mean_and_std(count_levels(images))
    return ClassImages(
        jnp.asarray(rows),
        jnp.asarray(counts, jnp.int32),
        jnp.asarray(mean, float),
        jnp.asarray(std, float),
    )


def place_in_class(labels: Shaped[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """0, 1, 2, ... for the images of each class, in their order."""
    place = np.zeros(len(labels), int)
    for label in np.unique(labels):
        place[labels == label] = np.arange(np.sum(labels == label))
    return place


def count_levels(images: UInt8[np.ndarray, "n h w channel"]) -> Int[np.ndarray, "channel 256"]:
    """How many pixels have each of the 256 values, in each channel."""
    by_channel = np.moveaxis(images, -1, 0)
    return np.stack([np.bincount(pixels.ravel(), minlength=256) for pixels in by_channel])


def mean_and_std(
    levels: Int[np.ndarray, "channel 256"],
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Of the pixels 0..1 of each channel; 1 is the standard deviation of a constant one."""
    values, total = np.arange(256) / 255, levels.sum(1)
    mean = levels @ values / total
    variance = (levels * (values - mean[:, None]) ** 2).sum(1) / total
    constant = (levels > 0).sum(1) == 1  # whose variance may be rounded to more than 0
    return tuple(mean.tolist()), tuple(np.where(constant, 1, np.sqrt(variance)).tolist())
