"""Convolution of small images: a matrix product for each place of the kernel.

    convolution       y[n, i, j] = sum over places (k, l) of  x[n, i + k - p, j + l - p] w[k, l]
    input gradient    x[n, i, j] = sum over places (k, l) of  g[n, i - k + p, j - l + p] w[k, l]'
    weight gradient   w[k, l]    = sum over n, i, j of        x[n, i + k - p, j + l - p]' g[n, i, j]

A place's product takes the pixels that it meets, and none of the padding: 100 products of a pixel
instead of 144 for a 3x3 kernel over 4x4 pixels padded by 1, 16 instead of 36 over 2x2.
"""

import itertools
from collections.abc import Iterator, Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

from gm_jax.nn.barrier import not_fused

Slices = tuple[slice, slice]
"""Rows and columns."""


def convolve(
    x: Float[Array, "n h w i"], kernel: Float[Array, "kh kw _ o"], padding: tuple[int, int]
) -> Float[Array, "n h2 w2 o"]:
    """Cross-correlation with stride 1 and zero padding."""
    sides = kernel.shape[:2]
    output = [s + 2 * p - k + 1 for s, p, k in zip(x.shape[1:3], padding, sides)]
    terms = [
        _padded(x[:, *met] @ matrix, outputs, output)
        for matrix, (met, outputs) in zip(_matrices(kernel), _places(sides, x.shape[1:3], padding))
    ]
    return sum(terms[1:], terms[0])


def input_gradient(
    g: Float[Array, "n h w o"], kernel: Float[Array, "kh kw i o"], padding: tuple[int, int]
) -> Float[Array, "n h2 w2 i"]:
    """The image's cotangent: `convolve(x, kernel, padding)`, transposed by the image."""
    sides = kernel.shape[:2]
    image = [s + k - 1 - 2 * p for s, p, k in zip(g.shape[1:3], padding, sides)]
    terms = [
        _padded(g[:, *outputs] @ matrix, met, image)
        for matrix, (met, outputs) in zip(_turned(kernel), _places(sides, image, padding))
    ]
    return sum(terms[1:], terms[0])


def _padded(x: Float[Array, "n h w c"], at: Slices, size: Sequence[int]) -> Array:
    """Zeros around `x`, which lies at these rows and columns of an image of that size."""
    rim = [(part.start, end - part.stop) for part, end in zip(at, size)]
    return jnp.pad(x, ((0, 0), *rim, (0, 0)))


def weight_gradient(
    x: Float[Array, "n h w i"], g: Float[Array, "n h2 w2 o"], padding: tuple[int, int]
) -> Float[Array, "kh kw i o"]:
    """The kernel's cotangent: `convolve(x, kernel, padding)`, transposed by the kernel."""
    i, o = x.shape[-1], g.shape[-1]
    sides = [s + 2 * p - n + 1 for s, p, n in zip(x.shape[1:3], padding, g.shape[1:3])]
    products = [
        x[:, *met].reshape(-1, i).T @ g[:, *outputs].reshape(-1, o)
        for met, outputs in _places(sides, x.shape[1:3], padding)
    ]
    return jnp.stack(products).reshape(*sides, i, o)


@not_fused
def _matrices(kernel):
    """Those of all places, row by row.

    Not fused, so that XLA cuts the kernel once, before a loop over microbatches, instead of in
    every product, which took a quarter of VGG11's time.
    """
    kh, kw, i, o = kernel.shape
    return list(kernel.reshape(kh * kw, i, o))


@not_fused
def _turned(kernel):
    """Their transposes, made once for the same reason."""
    kh, kw, i, o = kernel.shape
    return list(jnp.swapaxes(kernel, 2, 3).reshape(kh * kw, o, i))


def _places(
    kernel: Sequence[int], image: Sequence[int], padding: Sequence[int]
) -> Iterator[tuple[Slices, Slices]]:
    """For each place, row by row: the pixels that it meets, and the outputs that these add to."""
    rows, columns = (list(_meetings(*axis)) for axis in zip(kernel, image, padding))
    for (met_rows, to_rows), (met_columns, to_columns) in itertools.product(rows, columns):
        yield (met_rows, met_columns), (to_rows, to_columns)


def _meetings(kernel: int, image: int, padding: int) -> Iterator[tuple[slice, slice]]:
    """The same along one axis; two empty slices where a place meets the padding alone."""
    output = image + 2 * padding - kernel + 1
    for shift in range(-padding, kernel - padding):
        first = min(output, max(0, -shift))
        end = max(first, min(output, image - shift))
        met = min(image, max(0, first + shift))
        yield slice(met, met + end - first), slice(first, end)
