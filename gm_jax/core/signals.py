"""Signals: what of a network is matched, class by class.  The loss gradient is the first one.

A *signal* is a pure function `(params, x [n, h, w, c], y [n]) -> pytree`.  A label of -1 marks
padding, not an image; a signal is a mean over the images that are there.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from gm_jax.core.batching import chunked

Tree = Any
Signal = Callable[[Any, Float[Array, "n h w c"], Int[Array, " n"]], Tree]


def cross_entropy(logits: Float[Array, "n classes"], labels: Int[Array, " n"]) -> Float[Array, ""]:
    """Mean of -log softmax(logits)[label] over the labels that are not -1; 0 if there are none."""
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(labels, 0))
    present = (labels >= 0).astype(losses.dtype)
    return jnp.sum(losses * present) / jnp.maximum(jnp.sum(present), 1)


def loss_gradient(apply: Callable) -> Signal:
    """The signal g(params, x, y) = grad_params CE(apply(params, x), y)  (arXiv 2208.00311, sec. 3).

    Its reverse-mode derivative is taken forward over reverse.  With L the loss and v a cotangent,

        grad_z <grad_params L, v> = d/de grad_z L(params + e v, x, y)  at e = 0,  z = params or x,

    because second derivatives commute: no weight gradient is needed for z = x, and none is kept.
    Reverse mode to any order; for forward mode use `jax.grad` itself.

    Args:
        apply: `(params, x) -> logits`.
    """

    def loss(params, x, y):
        return cross_entropy(apply(params, x), y)

    @jax.custom_vjp
    def signal(params, x, y):
        return jax.grad(loss)(params, x, y)

    def forward(params, x, y):
        return signal(params, x, y), (params, x, y)

    def backward(inputs, v):
        params, x, y = inputs
        both = jax.grad(loss, (0, 1))
        return *jax.jvp(lambda params: both(params, x, y), (params,), (v,))[1], None

    signal.defvjp(forward, backward)
    return signal


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


def pullback(signal: Signal, size: int | None) -> Callable:
    """`(params, x, y, v) -> grad_x <signal(params, x, y), v>`, at most `size` images at a time.

    With v = dL/dsignal this is dL/dx by the chain rule, without keeping the signal's
    intermediates from when it was computed.
    """

    def of_part(params, x, y, v):
        return jax.vjp(lambda x: signal(params, x, y), x)[1](v)[0]

    def apply(params, x, y, v):
        if size is None or len(y) <= size:
            return of_part(params, x, y, v)

        def weighted(part):
            return _share(part[1], y, x.dtype) * of_part(params, *part, v)

        parts = jax.lax.map(weighted, _split(x, y, size))
        return parts.reshape(-1, *x.shape[1:])[: len(y)]

    return apply


def per_class(f: Callable, chunk: int | None) -> Callable:
    """`f(params, *class_arrays)` for each class: `(params, *arrays [C, ...]) -> pytree [C, ...]`.

    Args:
        f: a function of the parameters and one class's arrays.
        chunk: classes at a time; see `mapping.chunked`.
    """

    return lambda params, *arrays: chunked(lambda *a: f(params, *a), chunk)(*arrays)


def class_mean(signals: Tree) -> Tree:
    """mean_c of per-class signals [C, ...]: the gradient of the class-balanced loss.

    As a product: on a CPU a reduction over the first axis took a twelfth of a synthetic part.
    """

    def mean(g):
        share = jnp.full(len(g), 1 / len(g), g.dtype)
        return jnp.tensordot(share, g, 1, precision=jax.lax.Precision.HIGHEST)

    return jax.tree.map(mean, signals)


def _share(part: Int[Array, " m"], whole: Int[Array, " n"], dtype: Any) -> Float[Array, ""]:
    """The images of `part` among those of `whole`; 0 if there are none at all."""
    count = jnp.maximum(jnp.sum(whole >= 0), 1)
    return jnp.sum(part >= 0).astype(dtype) / count.astype(dtype)


def _split(x: Array, y: Array, size: int) -> tuple[Array, Array]:
    """Equal parts of at most `size`, the last one padded with label -1."""
    size = math.ceil(len(y) / math.ceil(len(y) / size))
    missing = -len(y) % size
    x = jnp.pad(x, ((0, missing), *((0, 0),) * (x.ndim - 1)))
    y = jnp.pad(y, (0, missing), constant_values=-1)
    return x.reshape(-1, size, *x.shape[1:]), y.reshape(-1, size)
