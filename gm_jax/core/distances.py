"""Distances between two gradients: one function an equation.

A distance maps two pytrees of the same shapes to a scalar.  It sums over tensors; a tensor of two
or more dimensions is a set of *rows*, one per output unit (its last axis: a convolution's kernel
[kh, kw, in, out] has `out` rows of kh * kw * in numbers, a dense kernel [in, out] has `out` rows of
`in`).  One-dimensional tensors (biases, most norms' scales) count nothing, except in the `global`
ones; a layer norm's scale and bias [h, w, channel] count, as `channel` rows.

Rows may be exactly zero (dead units).  Then the cosine counts 0, a norm's gradient is 0, and no
derivative of any order is NaN.  In float16, which no setting makes, rows below 0.09 count as zero.
"""

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from gm_jax.errors import UserError

Tree = Any
Distance = Callable[[Tree, Tree], Float[Array, ""]]
PerRow = Callable[[Float[Array, "k rows"], Float[Array, "k rows"]], Float[Array, " rows"]]


def cosine(a: Tree, b: Tree) -> Float[Array, ""]:
    """sum_rows (1 - cos(a, b)): the DC baseline (Zhao et al., 2021, arXiv 2006.05929).

    Examples:
        >>> a, b = jnp.array([[3.0, 1.0], [4.0, 0.0]]), jnp.array([[4.0, 0.0], [3.0, 2.0]])
        >>> f"{cosine(a, b):.2f}"  # rows (3, 4), (4, 3): 1 - 24/25; rows (1, 0), (0, 2): 1 - 0
        '1.04'
    """
    return _sum_rows(lambda a, b: 1 - _cos(a, b), a, b)


def cosine_l2(a: Tree, b: Tree) -> Float[Array, ""]:
    """sum_rows (1 - cos(a, b) + ||a - b||): angle and magnitude (arXiv 2208.00311); not squared."""
    return _sum_rows(lambda a, b: 1 - _cos(a, b) + _norm(a - b), a, b)


def cosine_sqsum(a: Tree, b: Tree) -> Float[Array, ""]:
    """sum_rows (1 - cos(a, b) + ||a - b||^2): the same paper's ablation."""
    return _sum_rows(lambda a, b: 1 - _cos(a, b) + _square(a - b), a, b)


def cosine_sqmean(a: Tree, b: Tree) -> Float[Array, ""]:
    """sum_rows (1 - cos(a, b) + ||a - b||^2 / k), of rows of k numbers: the same ablation."""
    return _sum_rows(lambda a, b: 1 - _cos(a, b) + _square(a - b) / len(a), a, b)


def cosine_normdiff(a: Tree, b: Tree) -> Float[Array, ""]:
    """sum_rows (1 - cos(a, b) + (||a|| - ||b||)^2): the same ablation."""
    return _sum_rows(lambda a, b: 1 - _cos(a, b) + (_norm(a) - _norm(b)) ** 2, a, b)


def l2(a: Tree, b: Tree) -> Float[Array, ""]:
    """sum_rows ||a - b||: magnitude alone, of the same ablation.

    Examples:
        >>> f"{l2(jnp.array([[3.0], [4.0]]), jnp.zeros((2, 1))):.1f}"
        '5.0'
    """
    return _sum_rows(lambda a, b: _norm(a - b), a, b)


def sqsum(a: Tree, b: Tree) -> Float[Array, ""]:
    """sum_rows ||a - b||^2: of the same ablation, and of IDC on colour (arXiv 2205.14959)."""
    return _sum_rows(lambda a, b: _square(a - b), a, b)


def l1(a: Tree, b: Tree) -> Float[Array, ""]:
    """sum |a - b| over the elements of all rows (IDC, arXiv 2205.14959)."""
    return _sum_rows(lambda a, b: jnp.sum(jnp.abs(a - b), 0), a, b)


def orthogonal(a: Tree, b: Tree) -> Float[Array, ""]:
    """sum_tensors ||Q(a) - Q(b)||^2 / 2, Q(U S V^T) = U V^T of a tensor's rows: direction alone.

    All singular values are set to 1, as in orthogonal gradient matching (OGM, CVPR 2026).  Of
    tensors with one row, neither of them zero, it is 1 - cos(a, b).

    Q is computed by `NEWTON_SCHULZ_STEPS` steps of X <- 1.5 X - 0.5 X X^T X from X = a / ||a||, a
    polynomial of a / ||a||: differentiable to any order, equal singular values included, where the
    derivatives of an SVD are not.  Singular values below about 2 % of ||a|| do not reach 1, and
    those that are 0 stay 0.
    """

    def of_rows(a, b):
        return jnp.sum((_orthogonalised(a) - _orthogonalised(b)) ** 2, 0) / 2

    return _sum_rows(of_rows, a, b)


NEWTON_SCHULZ_STEPS = 12
"""A singular value of s grows by a half a step while it is small: 0.01 * 1.5^12 = 1.3."""


def _orthogonalised(a: Float[Array, "k rows"]) -> Float[Array, "k rows"]:
    """U V^T of a = U S V^T, singular values far below ||a|| excepted; 0 of 0, and no derivative."""
    square = jnp.sum(a * a)
    zero = _is_zero(square)
    x = jnp.where(zero, 0, a) / jnp.where(zero, 1, _safe_sqrt(square))
    wide = x if len(a) <= a.shape[1] else x.T
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = jnp.matmul(wide, wide.T, precision=jax.lax.Precision.HIGHEST)
        wide = 1.5 * wide - 0.5 * jnp.matmul(gram, wide, precision=jax.lax.Precision.HIGHEST)
    return wide if len(a) <= a.shape[1] else wide.T


def mse_global(a: Tree, b: Tree) -> Float[Array, ""]:
    """||a - b||^2 of the whole flattened gradients, one-dimensional tensors included."""
    return _sum_leaves(lambda a, b: jnp.sum((a - b) ** 2), a, b)


def cosine_global(a: Tree, b: Tree) -> Float[Array, ""]:
    """1 - cos(a, b) of the whole flattened gradients, one-dimensional tensors included."""
    dot = _sum_leaves(lambda a, b: jnp.sum(a * b), a, b)
    square_a, square_b = (_sum_leaves(lambda t, u: jnp.sum(t * u), t, t) for t in (a, b))
    return 1 - _cos_of_products(dot, square_a, square_b)


def of_convolutions(distance: Distance) -> Distance:
    """The distance over tensors of four dimensions alone: kernels of convolutions (IDC).

    Raises `UserError`, from the distance, where a signal has none.
    """

    def of_kernels(tree):
        kernels = [leaf for leaf in jax.tree.leaves(tree) if leaf.ndim == 4]
        if not kernels:
            raise UserError("of_convolutions: the signal has no kernel of a convolution")
        return kernels

    return lambda a, b: distance(of_kernels(a), of_kernels(b))


def by_part(*distances: Distance, weights: Sequence[ArrayLike] = ()) -> Distance:
    """sum_i w_i D_i(a_i, b_i) of signals (a_1, ..., a_n), as `signals.together` makes them.

    Args:
        distances: one for each part.
        weights: a factor each; all 1 by default.

    Raises:
        UserError: no distance, or another number of weights; from the distance, another number of
            parts.

    Examples:
        >>> both = by_part(l2, l1, weights=(1, 0.5))
        >>> a = jnp.array([[3.0], [4.0]]), jnp.ones((1, 2))
        >>> b = jnp.zeros((2, 1)), jnp.zeros((1, 2))
        >>> f"{both(a, b):.1f}"  # 5 + 0.5 (1 + 1)
        '6.0'
    """
    count = len(distances)
    factors = factors_of("by_part", count, weights)

    def distance(a, b):
        if not isinstance(a, tuple) or len(a) != count:
            raise UserError(f"by_part: a signal of {count} parts is needed: see signals.together")
        parts = zip(distances, factors, a, b)
        return functools.reduce(operator.add, (w * of(a, b) for of, w, a, b in parts))

    return distance


def factors_of(name: str, parts: int, weights: Sequence[ArrayLike]) -> tuple[Any, ...]:
    """A factor for each part: the weights, or 1 each if there are none.

    Raises:
        UserError: their number is another one, or there is no part; `name` is who asks.
    """
    if not parts:
        raise UserError(f"{name}: give it at least one")
    if len(weights) and len(weights) != parts:
        raise UserError(f"{name}: {len(weights)} weights, must be {parts}, one for each part")
    return tuple(weights) if len(weights) else (1.0,) * parts


def _sum_leaves(f: Callable, a: Tree, b: Tree) -> Float[Array, ""]:
    return functools.reduce(operator.add, jax.tree.leaves(jax.tree.map(f, a, b)))


def _sum_rows(per_row: PerRow, a: Tree, b: Tree) -> Float[Array, ""]:
    """Sum of `per_row` over the rows of all tensors of two or more dimensions."""

    def of_tensor(a, b):
        if a.ndim < 2:
            return jnp.zeros((), a.dtype)
        return jnp.sum(per_row(*(t.reshape(-1, t.shape[-1]) for t in (a, b))))

    return _sum_leaves(of_tensor, a, b)


def _norm(a: Float[Array, "k rows"]) -> Float[Array, " rows"]:
    """Euclidean norm of each row; at zero its value and all derivatives are 0."""
    return _safe_sqrt(_square(a))


def _square(a: Float[Array, "k rows"]) -> Float[Array, " rows"]:
    """Squared Euclidean norm of each row."""
    return jnp.sum(a * a, 0)


def _cos(a: Float[Array, "k rows"], b: Float[Array, "k rows"]) -> Float[Array, " rows"]:
    """<a, b> / (||a|| ||b||) of each row; 0 where either is zero."""
    return _cos_of_products(jnp.sum(a * b, 0), _square(a), _square(b))


def _cos_of_products(dot: Array, square_a: Array, square_b: Array) -> Array:
    zero = _is_zero(square_a) | _is_zero(square_b)
    norm_a, norm_b = (jnp.where(zero, 1, _safe_sqrt(s)) for s in (square_a, square_b))
    # one after the other: the derivatives of 1 / (||a|| ||b||) would overflow much sooner
    return jnp.where(zero, 0, dot) / norm_a / norm_b


def _safe_sqrt(square: Array) -> Array:
    """sqrt whose value and derivatives are 0 at 0.

    The inner `where` keeps the infinite derivative out of the branch not taken: 0 * inf is NaN.
    """
    zero = _is_zero(square)
    return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, square)))


def _is_zero(square: Array) -> Array:
    """Squared norms so small that the second derivative, ~ square^(-3/2), could overflow.

    In float32 that is a norm below 3e-10: rounding noise, not a gradient.
    """
    return square <= jnp.sqrt(jnp.finfo(square.dtype).tiny)


DISTANCES: dict[str, Distance] = {
    "cosine": cosine,
    "cosine+l2": cosine_l2,
    "cosine+sqsum": cosine_sqsum,
    "cosine+sqmean": cosine_sqmean,
    "cosine+normdiff": cosine_normdiff,
    "l2": l2,
    "sqsum": sqsum,
    "l1": l1,
    "orthogonal": orthogonal,
    "mse-global": mse_global,
    "cosine-global": cosine_global,
}
"""The distances by the names the command line knows."""
