"""Parametrisations: what is learned, and the images that it stands for.

The learned array has a row for each class, `[C, ipc, ...]`; what is matched, trained on and
evaluated is its *decode*, images `[C, n, height, width, channel]`.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def _unchanged(learned: Array) -> Array:
    return learned


class Parametrisation(NamedTuple):
    """What is learned, and the images that it stands for.

    Attributes:
        decode: `learned [C, ipc, ...] -> images [C, n, h, w, channel]`, differentiable.
        project: `learned -> learned`, applied before each iteration: to clamp it, for example.
        start: `images [C, ipc, h, w, channel] -> learned`, of the images that a run starts from.
    """

    decode: Callable[[Float[Array, "C ipc *shape"]], Float[Array, "C n h w channel"]]
    project: Callable[[Float[Array, "C ipc *shape"]], Float[Array, "C ipc *shape"]]
    start: Callable[[Float[Array, "C ipc h w channel"]], Float[Array, "C ipc *shape"]] = _unchanged


pixels = Parametrisation(_unchanged, _unchanged)
"""The images themselves, never clamped (arXiv 2006.05929)."""


def multi_formation(factor: int, fill: Float[Array, " channel"]) -> Parametrisation:
    """Each learned image stands for factor^2 images: its crops, enlarged (arXiv 2205.14959).

    A learned image is cut into `factor` x `factor` crops of `s = ceil(size / factor)` pixels on a
    side; each is resized bilinearly to the full size.  The images of a class come crop by crop:
    number `(i * factor + j) * ipc + k` is crop (i, j) of learned image k.

    Args:
        factor: 1 or more; at most the height and width of the images.
        fill: what an image is padded with, below and at the right, where `factor` does not divide
            its size; 0.5 in pixels of 0..1.
    """
    if factor == 1:
        return pixels
    return pixels._replace(decode=functools.partial(_enlarged_crops, factor=factor, fill=fill))


def clamped(
    parametrisation: Parametrisation,
    low: Float[Array, " channel"],
    high: Float[Array, " channel"],
) -> Parametrisation:
    """The same, what is learned kept within `low` and `high`, channel by channel."""

    def project(learned):
        shape = (1,) * (learned.ndim - 1) + (-1,)
        return jnp.clip(parametrisation.project(learned), low.reshape(shape), high.reshape(shape))

    return parametrisation._replace(project=project)


def _enlarged_crops(
    learned: Float[Array, "C ipc h w channel"], factor: int, fill: Float[Array, " channel"]
) -> Float[Array, "C n h w channel"]:
    """out[.., i, a, j, b, ..] = sum_hw R_i[a, h] padded[h, w] R_j[b, w], R_i the rows of crop i."""
    classes, ipc, h, w, channel = learned.shape
    rows, columns = (-size % factor for size in (h, w))
    widths = ((0, 0), (0, 0), (0, rows), (0, columns), (0, 0))
    # what is padded is the difference to the fill, whose enlargement is the fill again
    offset = fill.astype(learned.dtype)[None, None, None, None]
    padded = jnp.pad(learned - offset, widths)
    highest = jax.lax.Precision.HIGHEST
    high, wide = (jnp.asarray(_resize_matrices(s, factor), learned.dtype) for s in (h, w))
    tall = jnp.einsum("iah,cnhwk->cinawk", high, padded, precision=highest)
    crops = jnp.einsum("jbw,cinawk->cijnabk", wide, tall, precision=highest)
    return crops.reshape(classes, factor**2 * ipc, h, w, channel) + offset


@functools.cache
def _resize_matrices(size: int, factor: int) -> Float[np.ndarray, "factor size padded"]:
    """For each crop, the matrix that takes a padded side to the enlarged crop.

    Bilinear with half-pixel centres: output a reads (a + 1/2) s / size - 1/2 of the crop, clamped
    to its first and last pixel.
    """
    side = -(-size // factor)
    source = np.clip((np.arange(size) + 0.5) * side / size - 0.5, 0, side - 1)
    below = np.floor(source).astype(int)
    above = np.minimum(below + 1, side - 1)
    matrices = np.zeros((factor, size, side * factor))
    for crop in range(factor):
        np.add.at(matrices[crop], (np.arange(size), crop * side + below), 1 - (source - below))
        np.add.at(matrices[crop], (np.arange(size), crop * side + above), source - below)
    return matrices
