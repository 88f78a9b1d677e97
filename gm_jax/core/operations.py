"""Operations: changes of one image that gradients pass through (arXiv 2102.08259).

An *operation* is one equation of one image `[h, w, channel]` and explicit parameters; the law of
its parameters is another function.  `augment` makes changes of batches of them.

Images are normalised ones: what comes from outside an image is 0, the data's mean.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

Image = Float[Array, "h w channel"]
Number = Float[Array, ""]
Whole = Int[Array, ""]

# --- equations ------------------------------------------------------------------------------------


def brightness(x: Image, u: Number) -> Image:
    """x + (u - 1/2), u in [0, 1)."""
    return x + (u - 0.5)


def saturation(x: Image, u: Number) -> Image:
    """m + 2 u (x - m), m each pixel's mean over its channels, u in [0, 1); of one channel, x."""
    m = jnp.mean(x, -1, keepdims=True)
    return (x - m) * (2 * u) + m


def contrast(x: Image, u: Number) -> Image:
    """m + (u + 1/2) (x - m), m the image's mean, through which the gradient passes; u in [0, 1)."""
    m = jnp.mean(x)
    return (x - m) * (u + 0.5) + m


def color(x: Image, brightness_u: Number, saturation_u: Number, contrast_u: Number) -> Image:
    """Brightness, then saturation, then contrast."""
    return contrast(saturation(brightness(x, brightness_u), saturation_u), contrast_u)


def crop(x: Image, rows: Whole, cols: Whole) -> Image:
    """out[i, j] = x[i + rows, j + cols], 0 outside; each within size / 8, rounded, either way."""
    h, w, _ = x.shape
    r, c = _reach(h), _reach(w)
    padded = jnp.pad(x, ((r, r), (c, c), (0, 0)))
    return jax.lax.dynamic_slice(padded, (rows + r, cols + c, 0), x.shape)


def cutout(x: Image, rows: Whole, cols: Whole) -> Image:
    """0 in a box of half the height and width, rounded up, about pixel (rows, cols).

    A box of k rows begins at rows - floor(k/2), and may hang over the border; rows and cols are 0
    to the size, or to the size - 1 where k is odd.
    """
    h, w, _ = x.shape
    high, wide = _half(h), _half(w)
    top, left = rows - high // 2, cols - wide // 2
    return jnp.where(box(h, w, (top, top + high), (left, left + wide)), 0, x)


def flip(x: Image, flipped: Bool[Array, ""]) -> Image:
    """Left and right exchanged, if `flipped`."""
    return jnp.where(flipped, x[:, ::-1], x)


def scale(x: Image, sx: Number, sy: Number) -> Image:
    """Pixel (i, j), counted from the centre, reads (sy i, sx j): s > 1 makes the picture smaller.

    Bilinear, each of the four neighbours 0 outside.  It is separable: out = A x B^T with the
    matrix A[i, k] = hat(sy i - k), B likewise, and hat(t) = max(0, 1 - |t|).
    """

    def matrix(size, s):
        i = _from_centre(size)
        return _hat(s * i[:, None] - i[None])

    a, b = matrix(x.shape[0], sy), matrix(x.shape[1], sx)
    return jnp.einsum("ik,jl,klc->ijc", a, b, x, precision=jax.lax.Precision.HIGHEST)


def rotate(x: Image, angle: Number) -> Image:
    """Pixel (i, j), counted from the centre, reads (cos i + sin j, cos j - sin i); in radians.

    Bilinear, each of the four neighbours 0 outside.
    """
    h, w, _ = x.shape
    i, j = _from_centre(h)[:, None], _from_centre(w)[None]
    row = jnp.cos(angle) * i + jnp.sin(angle) * j + (h - 1) / 2
    col = jnp.cos(angle) * j - jnp.sin(angle) * i + (w - 1) / 2

    def neighbour(below, right):
        k, l = jnp.floor(row) + below, jnp.floor(col) + right
        inside = (k >= 0) & (k < h) & (l >= 0) & (l < w)
        weight = jnp.where(inside, _hat(row - k) * _hat(col - l), 0)
        pixels = x[jnp.clip(k, 0, h - 1).astype(int), jnp.clip(l, 0, w - 1).astype(int)]
        return weight[..., None] * pixels

    return jnp.sum(jax.vmap(neighbour)(jnp.array([0, 0, 1, 1]), jnp.array([0, 1, 0, 1])), 0)


def _reach(size: int) -> int:
    return (size + 4) // 8


def _half(size: int) -> int:
    return (size + 1) // 2


def _from_centre(size: int) -> Float[Array, " size"]:
    return jnp.arange(size) - (size - 1) / 2


def _hat(t: Float[Array, "..."]) -> Float[Array, "..."]:
    return jnp.maximum(0, 1 - jnp.abs(t))


def box(
    h: int, w: int, rows: tuple[Whole, Whole], cols: tuple[Whole, Whole]
) -> Bool[Array, "h w 1"]:
    """The pixels from rows[0] to below rows[1], as far as there are any, and columns likewise."""
    i, j = jnp.arange(h), jnp.arange(w)
    row, col = (i >= rows[0]) & (i < rows[1]), (j >= cols[0]) & (j < cols[1])
    return (row[:, None] & col[None])[..., None]


# --- laws -----------------------------------------------------------------------------------------


NUMBERS = 3
"""Uniform numbers that an operation is given to make its parameters of."""


class Operation(NamedTuple):
    """An operation and the law of its parameters.

    Attributes:
        law: `(u [NUMBERS], height, width) -> parameters`, a tuple of scalars, of independent
            numbers u that are uniform in [0, 1).
        apply: `(x [h, w, channel], *parameters) -> [h, w, channel]`.
        channels: with fewer of them it would do nothing, and is refused.
    """

    law: Callable[[Float[Array, " numbers"], int, int], tuple[Array, ...]]
    apply: Callable[..., Image]
    channels: int = 1


def _uniform(count: int, low: float = 0.0, high: float = 1.0) -> Callable:
    return lambda u, h, w: tuple(low + (high - low) * u[:count])


def _pixel(bounds: Callable[[int], tuple[int, int]]) -> Callable:
    """A row and a column, each from the lower to below the upper bound of its size."""
    return lambda u, h, w: tuple(whole(u[k], *bounds(size)) for k, size in enumerate((h, w)))


def _coin(u: Float[Array, " numbers"], h: int, w: int) -> tuple[Bool[Array, ""]]:
    return (u[0] < 0.5,)


def whole(u: Number, low: int, high: int) -> Whole:
    """The whole number from low to below high that u stands for, each with equal chance."""
    return low + jnp.floor(u * (high - low)).astype(int)


OPERATIONS = {
    "color": Operation(_uniform(3), color),
    "crop": Operation(_pixel(lambda size: (-_reach(size), _reach(size) + 1)), crop),
    "cutout": Operation(_pixel(lambda size: (0, size + 1 - _half(size) % 2)), cutout),
    "flip": Operation(_coin, flip),
    "scale": Operation(_uniform(2, 1 / 1.2, 1.2), scale),
    "rotate": Operation(_uniform(1, -jnp.pi / 12, jnp.pi / 12), rotate),
    "brightness": Operation(_uniform(1), brightness),
    "saturation": Operation(_uniform(1), saturation, channels=2),
    "contrast": Operation(_uniform(1), contrast),
}
"""By their names in a strategy.  The last three are one part each of `color`."""
