"""One function over many inputs, some at a time: microbatches of images, chunks of classes or sets.

None of this changes a result by more than rounding; it decides memory and speed.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from gm_jax.data.images import Labels


def chunked(f: Callable, chunk: int | None) -> Callable:
    """`f` of one input to `f` of many: every argument and result gets a leading axis.

    Args:
        f: any function of arrays and pytrees of them.
        chunk: inputs at a time: 1 is one after another (`lax.map`), `None` all at once (`vmap`).

    Examples:
        >>> chunked(lambda x, y: x + y, 1)(jnp.array([1, 2]), jnp.array([10, 20])).tolist()
        [11, 22]
    """

    def apply(*arguments):
        size = len(jax.tree.leaves(arguments)[0])
        if size == 1:  # batching a whole program by one takes seconds, and gains nothing
            return jax.tree.map(lambda r: r[None], f(*jax.tree.map(lambda a: a[0], arguments)))
        if chunk is None or chunk >= size:
            return jax.vmap(f)(*arguments)
        batch = None if chunk == 1 else chunk
        return jax.lax.map(lambda a: f(*a), arguments, batch_size=batch)

    return apply


def per_class(f: Callable, chunk: int | None) -> Callable:
    """`f(params, *class_arrays)` for each class: `(params, *arrays [C, ...]) -> pytree [C, ...]`.

    Args:
        f: a function of the parameters and one class's arrays.
        chunk: classes at a time; see `chunked`.
    """
    return lambda params, *arrays: chunked(lambda *a: f(params, *a), chunk)(*arrays)


def microbatched(mean_of: Callable, size: int | None) -> Callable:
    """A function `(params, x, y) -> pytree of means over images`, at most `size` images at a time.

    A mean over n images is the mean of the parts' means, each weighted by its images: the same
    result, with activations that fit a cache.  `None` takes all images at once, which is what a
    function that is no mean over single images needs.
    """
    if size is None:
        return mean_of

    def accumulate(params, x, y):
        if len(y) <= size:
            return mean_of(params, x, y)
        parts = _split(x, y, size)

        def add(mean, part):
            share = _share(part[1], y, x.dtype)
            part_mean = mean_of(params, *part)
            return jax.tree.map(lambda m, p: m + share.astype(p.dtype) * p, mean, part_mean), None

        shapes = jax.eval_shape(mean_of, params, *jax.tree.map(lambda t: t[0], parts))
        zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
        return jax.lax.scan(add, zeros, parts)[0]

    return accumulate


def microbatched_pullback(pullback: Callable, size: int | None) -> Callable:
    """`(params, x, y, v) -> grad_x <mean_of(params, x, y), v>`, at most `size` images at a time.

    Nothing is kept from when the mean was computed: each part's intermediates are computed again.

    Args:
        pullback: the same function of all images at once.
        size: `None` takes all images at once.
    """

    def apply(params, x, y, v):
        if size is None or len(y) <= size:
            return pullback(params, x, y, v)

        def weighted(part):
            return _share(part[1], y, x.dtype) * pullback(params, *part, v)

        parts = jax.lax.map(weighted, _split(x, y, size))
        return parts.reshape(-1, *x.shape[1:])[: len(y)]

    return apply


def present(labels: Labels) -> Bool[Array, "*groups n"]:
    """Which images are no padding: label not -1, or probabilities that do not sum to 0."""
    if jnp.issubdtype(labels.dtype, jnp.integer):
        return labels >= 0
    return jnp.sum(labels, -1) > 0


def mean_weights(labels: Labels, dtype: Any) -> Float[Array, " n"]:
    """What each image counts in the mean over those that are there: 1 / n, and 0 for padding."""
    there = present(labels).astype(dtype)
    return there / jnp.maximum(jnp.sum(there), 1)


def _share(part: Array, whole: Array, dtype: Any) -> Float[Array, ""]:
    """The images of `part` among those of `whole`; 0 if there are none at all."""
    count = jnp.maximum(jnp.sum(present(whole)), 1)
    return jnp.sum(present(part)).astype(dtype) / count.astype(dtype)


def _split(x: Array, y: Array, size: int) -> tuple[Array, Array]:
    """Equal parts of at most `size`, the last one padded: label -1, or probabilities 0.

    The padding repeats the last image: what a network makes of zeros may not be finite.
    """
    size = math.ceil(len(y) / math.ceil(len(y) / size))
    missing = -len(y) % size
    padding = -1 if jnp.issubdtype(y.dtype, jnp.integer) else 0
    x = jnp.pad(x, ((0, missing), *((0, 0),) * (x.ndim - 1)), mode="edge")
    y = jnp.pad(y, ((0, missing), *((0, 0),) * (y.ndim - 1)), constant_values=padding)
    return x.reshape(-1, size, *x.shape[1:]), y.reshape(-1, size, *y.shape[1:])
