"""What the synthetic images start as: `(key, data, ipc) -> images [C, ipc, h, w, channel]`."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from gm_jax.data.drawing import draw_classes, drawn_flat
from gm_jax.data.images import ClassImages


def noise_images(
    key: Key[Array, ""], data: ClassImages, ipc: int
) -> Float[Array, "C ipc h w channel"]:
    """N(0, 1) in normalised pixel space."""
    classes, _, *shape = data.images.shape
    return drawn_flat(jax.random.normal, key, (classes, ipc, *shape))


def real_images(
    key: Key[Array, ""], data: ClassImages, ipc: int
) -> Float[Array, "C ipc h w channel"]:
    """Real images drawn without replacement; ipc is at most the smallest class."""
    return draw_classes(key, data, ipc)[0]


def mosaics(factor: int) -> Callable[..., Float[Array, "C ipc h w channel"]]:
    """Mosaics of factor^2 real images each: IDC's start of multi-formation (arXiv 2205.14959).

    The real images are drawn without replacement; the published program takes the first ones of
    each class.  ipc * factor^2 is at most the smallest class.
    """

    def start(key, data, ipc):
        return mosaic(draw_classes(key, data, ipc * factor**2)[0], factor)

    return start


def mosaic(
    images: Float[Array, "C n h w channel"], factor: int
) -> Float[Array, "C ipc h w channel"]:
    """Each of ipc = n / factor^2 images is cut into factor x factor tiles, each a small image.

    Tile (i, j) of image k is number `(i * factor + j) * ipc + k`, reduced to the tile's size: pixel
    p of a side of s pixels is pixel floor(p * size / s).  The first `size % factor` tiles of a side
    are one pixel larger than the others.
    """
    rows, columns = (_tile_pixels(size, factor) for size in images.shape[2:4])
    classes, n, *shape = images.shape
    tiles = images.reshape(classes, factor, factor, n // factor**2, *shape)
    tall = [
        jnp.concatenate(
            [tiles[:, i, j][:, :, rows[i]][:, :, :, columns[j]] for j in range(factor)], 3
        )
        for i in range(factor)
    ]
    return jnp.concatenate(tall, 2)


def _tile_pixels(size: int, factor: int) -> list[np.ndarray]:
    """For each tile of a side, which pixels of an image it shows."""
    sizes = [size // factor + (tile < size % factor) for tile in range(factor)]
    return [np.arange(s) * size // s for s in sizes]
