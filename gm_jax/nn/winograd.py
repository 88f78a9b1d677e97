"""3x3 convolution with a quarter of the multiplications: Winograd's F(4x4, 3x3).

The output is cut into tiles of 4x4, each made from the 6x6 pixels around it.  Of a tile d, a kernel
w and a cotangent tile g, with the constant matrices B [6, 6], G [6, 3] and A [6, 4],

    convolution       A' [(G w G') * (B' d B)] A
    input gradient    sum over the tiles that share a pixel of B [(G w G') * (A g A')] B'
    weight gradient   G' [sum over tiles of (B' d B) * (A g A')] G

where ' transposes and * is elementwise in the 36 places; each place is a matrix product over the
channels (or, for the weight gradient, over the tiles): 36 multiplications instead of 144.  (Lavin &
Gray, arXiv 1509.09308.)  The second and third are the first one's transposes as they stand, so
B' d B and A g A' each serve two of the three, and XLA computes them once.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from gm_jax.nn.barrier import not_fused

TILE, REACH = 4, 6
"""Output pixels, and the input pixels they are made from, on a tile's side."""

POINTS = (0, 3 / 4, -3 / 4, 3 / 2, -3 / 2)
"""Where the tile's polynomial is evaluated, besides infinity.  These halve the rounding errors of
the usual 0, 1, -1, 2, -2; any five different numbers give the same convolution."""


Matrix = tuple[tuple[float, ...], ...]
"""Its rows; hashable, because programs are cached by it."""


def _matrices() -> tuple[Matrix, Matrix, Matrix]:
    """B, G and A of the points p_0 .. p_4 and infinity, a row (of B a column) each.

    A[i, k] = p_i^k,   G[i, k] = p_i^k / prod_(j != i) (p_i - p_j),
    B[k, i] = coefficient of x^k in prod_(j != i) (x - p_j);   at infinity: the highest power alone.
    """
    others = [[q for q in POINTS if q != p] for p in POINTS]
    b = np.zeros((REACH, REACH))
    for column, roots in enumerate([*others, POINTS]):
        b[: len(roots) + 1, column] = np.poly(roots)[::-1]
    scale = np.array([np.prod([p - q for q in rest]) for p, rest in zip(POINTS, others)])
    g = np.vander(POINTS, 3, increasing=True) / scale[:, None]
    a = np.vander(POINTS, TILE, increasing=True)
    padded = (b, np.vstack([g, np.eye(3)[-1]]), np.vstack([a, np.eye(TILE)[-1]]))
    rows_b, rows_g, rows_a = (tuple(map(tuple, matrix.tolist())) for matrix in padded)
    return rows_b, rows_g, rows_a


_B, _G, _A = _matrices()
_TO_KERNEL = np.einsum("ki,lj->lkij", _G, _G)
"""(G w G')[k, l] = sum_ij _TO_KERNEL[l, k, i, j] w[i, j]."""


class Cut(NamedTuple):
    """How one side of an image is cut into tiles.

    Attributes:
        matrix: what a tile is multiplied by.
        tiles: how many.
        padding: zeros before the image; the tiles reach over its other end too.
    """

    matrix: Matrix
    tiles: int
    padding: int


Strips = list[Array]
"""Six arrays `[6, tiles, channel]`: column l of a 6x6 matrix with an entry of each tile."""


def saves(h: int, w: int) -> bool:
    """Whether an output of h x w takes at most half the multiplications of the direct sum."""
    return 2 * REACH**2 * tiles(h, w) <= 9 * h * w


def tiles(h: int, w: int) -> int:
    """Tiles of an output of h x w."""
    return -(-h // TILE) * -(-w // TILE)


def convolve(
    x: Float[Array, "n h w i"], kernel: Float[Array, "3 3 _ o"], padding: tuple[int, int]
) -> Float[Array, "n h2 w2 o"]:
    """Cross-correlation with stride 1 and zero padding."""
    h, w = (s + 2 * p - 2 for s, p in zip(x.shape[1:3], padding))
    tiles = _cut(_B, x, (h, w), padding)
    products = [jnp.matmul(v, u) for v, u in zip(tiles, _places(kernel))]
    return _assemble(products, len(x), h, w)


def input_gradient(
    g: Float[Array, "n h w o"], kernel: Float[Array, "3 3 i o"], padding: tuple[int, int]
) -> Float[Array, "n h2 w2 i"]:
    """The image's cotangent: `convolve(x, kernel, padding)`, transposed by the image."""
    n, h, w, _ = g.shape
    i, tall, wide = kernel.shape[2], -(-h // TILE), -(-w // TILE)
    cotangents = _cut(tuple(zip(*_A)), g, (h, w), (0, 0))
    products = [jnp.matmul(u, v) for u, v in zip(cotangents, _places(_turned(kernel)))]
    height, width = (s + 2 - 2 * p for s, p in zip((h, w), padding))
    columns = _shared([p.reshape(-1, wide, i) for p in products], (width, padding[1]))
    rows = _shared(columns.reshape(REACH, n, tall, width * i), (height, padding[0]))
    return rows.reshape(n, height, width, i)


def weight_gradient(
    x: Float[Array, "n h w i"], g: Float[Array, "n h2 w2 o"], padding: tuple[int, int]
) -> Float[Array, "3 3 i o"]:
    """The kernel's cotangent: `convolve(x, kernel, padding)`, transposed by the kernel."""
    tiles = _cut(_B, x, g.shape[1:3], padding)
    cotangents = _cut(tuple(zip(*_A)), g, g.shape[1:3], (0, 0))
    products = [jnp.einsum("kti,kto->kio", v, u) for v, u in zip(tiles, cotangents)]
    return jnp.tensordot(jnp.asarray(_G, x.dtype).T, _kernel_columns(products), 1)


def _turned(kernel: Float[Array, "3 3 i o"]) -> Float[Array, "3 3 o i"]:
    """Its channels the other way round."""
    return _turned_row(kernel).reshape(3, 3, kernel.shape[3], -1)


@not_fused
def _turned_row(kernel):
    """Turned once, where products would turn all 36 places.

    Flat, because XLA would otherwise copy an array here in a layout of its own, and turn the copy
    outside.
    """
    return jnp.swapaxes(kernel, 2, 3).ravel()


def _places(kernel: Float[Array, "3 3 i o"]) -> Strips:
    """G w G', a strip `[6, i, o]` a column."""
    return [jnp.tensordot(t, kernel, 2) for t in jnp.asarray(_TO_KERNEL, kernel.dtype)]


def _cut(matrix: Matrix, x: Array, output: Sequence[int], padding: tuple[int, int]) -> Strips:
    """M' d M of every tile d of the padded image; tiles begin every 4 pixels."""
    rows, columns = (Cut(matrix, -(-s // TILE), p) for s, p in zip(output, padding))
    return _columns(_rows(x, rows), columns)


def _assemble(products: Strips, n: int, h: int, w: int) -> Float[Array, "n h w o"]:
    """A' m A of every tile's m, side by side; what the last tiles have too many is cut off."""
    o, tall, wide = products[0].shape[-1], -(-h // TILE), -(-w // TILE)
    columns = _joined([p.reshape(-1, o) for p in products])
    rows = _joined(columns.reshape(REACH, n * tall, wide * TILE * o))
    return rows.reshape(n, tall * TILE, wide * TILE, o)[:, :h, :w]


# --- the sums over tiles --------------------------------------------------------------------------

# They are along one axis, and what is before it, or behind it, is one axis more: short loops are
# unrolled, and with the two tiles of an 8x8 image's side half of these sums took two to three times
# as long to compile as with the four of a 16x16 one.


@functools.partial(not_fused, static="cut")
def _rows(x, cut):
    """`[n, h, w, c]` to M' d `[6, n, tall, w, c]` of every tile."""
    n, h, w, c = x.shape
    rows = jnp.stack(_combined(cut.matrix, _pixels(x.reshape(n, h, w * c), cut)))
    return rows.reshape(REACH, n, cut.tiles, w, c)


@functools.partial(not_fused, static="cut")
def _columns(x, cut):
    """`[6, n, tall, w, c]` to its product with M, a strip `[6, n * tall * wide, c]` a column.

    Six arrays for six products: one array would be cut, which is a copy.
    """
    *_, w, c = x.shape
    strips = _combined(cut.matrix, _pixels(x.reshape(-1, w, c), cut))
    return [strip.reshape(REACH, -1, c) for strip in strips]


@not_fused
def _joined(parts):
    """A' times the six parts `[tiles, ...]` of every tile, `[tiles, 4, ...]`."""
    return jnp.stack(_combined(_A, list(parts)), 1)


@functools.partial(not_fused, static="output")
def _shared(parts, output):
    """B times the six parts `[n, tiles, ...]` of every tile, added up where tiles overlap.

    A tile reaches over 6 pixels and begins 4 after the one before.  The result has `output[0]`
    pixels in place of the tiles, beginning with pixel number `output[1]`.
    """
    size, first = output
    blocks = -(-size // TILE)
    pixels = []
    for pixel in range(first, first + TILE):
        reaching = [(pixel - row) // TILE for row in range(REACH) if (pixel - row) % TILE == 0]
        terms = [
            weight * _moved(part, tile, blocks)
            for tile in reaching
            for weight, part in zip(_B[pixel - TILE * tile], parts)
            if weight
        ]
        pixels.append(sum(terms[1:], terms[0]))
    n, *_, inner = parts[0].shape
    return jnp.stack(pixels, 2).reshape(n, blocks * TILE, inner)[:, :size]


@not_fused
def _kernel_columns(strips):
    """Six `[6, i, o]` to m G, `[6, 3, i, o]`."""
    return jnp.stack(_combined(_G, strips), 1)


def _moved(x: Array, by: int, size: int) -> Array:
    """`x[:, by : by + size]`, zeros outside."""
    pads = [(0, 0, 0), (-by, size + by - x.shape[1], 0), (0, 0, 0)]
    return lax.pad(x, jnp.zeros((), x.dtype), pads)


def _pixels(x: Array, cut: Cut) -> list[Array]:
    """Of `x [:, pixels]` the first pixels of all tiles, their second, and so on; zeros outside."""
    span = TILE * (cut.tiles - 1) + 1
    return [_moved(x, k - cut.padding, span)[:, ::TILE] for k in range(len(cut.matrix))]


def _combined(matrix: Matrix, parts: list[Array]) -> list[Array]:
    """M' parts, row by row."""
    rows = []
    for weights in zip(*matrix):
        terms = [p if u == 1 else u * p for u, p in zip(weights, parts) if u]
        rows.append(sum(terms[1:], terms[0]))
    return rows
