"""Signals: what of a network is matched.  The loss gradient is the first one.

A signal is a pure function of a network, its parameters and a group of images.  A label of -1 marks
padding, not an image: a signal must leave it out.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from gm_jax.core.batching import present
from gm_jax.data.images import Labels

Tree = Any


class Model(NamedTuple):
    """A network with its running statistics fixed: what a signal is taken of.

    Attributes:
        logits: `(params, x [n, h, w, c]) -> [n, classes]`.
        features: `(params, x [n, h, w, c]) -> [n, d]`, what the last dense layer sees.
    """

    logits: Callable[[Any, Float[Array, "n h w c"]], Float[Array, "n classes"]]
    features: Callable[[Any, Float[Array, "n h w c"]], Float[Array, "n d"]]


class Signal(NamedTuple):
    """What of a network is matched.

    Attributes:
        of: `(model, params, x [n, h, w, c], y) -> pytree`; labels as in `data.images.Batch`.
        mean_over_images: whether the signal of n images is the mean of their n signals, images with
            label -1 left out.  Such a signal is computed in microbatches.  Any other one (the
            result of several training steps, a normalised vector) must say False and is computed
            on the whole group at once: a wrong True gives wrong numbers without an error.
        pullback: `(model, params, x, y, v) -> grad_x <of(model, params, x, y), v>` where a signal
            knows a cheaper way than reverse-mode differentiation of `of`, which `None` stands for.
    """

    of: Callable[[Model, Any, Float[Array, "n h w c"], Labels], Tree]
    mean_over_images: bool
    pullback: Callable[..., Float[Array, "n h w c"]] | None = None


def cross_entropy(logits: Float[Array, "n classes"], labels: Labels) -> Float[Array, ""]:
    """Mean of -sum_k p_k log softmax(logits)_k over the images that are there; 0 if there are none.

    A hard label stands for the distribution that is 1 there; -1 marks padding.

    >>> logits = jnp.log(jnp.array([[0.25, 0.75], [0.5, 0.5]]))
    >>> f"{jnp.exp(-cross_entropy(logits, jnp.array([1, -1]))):.2f}"
    '0.75'
    """
    if jnp.issubdtype(labels.dtype, jnp.integer):
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(labels, 0))
    else:
        losses = optax.softmax_cross_entropy(logits, labels)
    there = present(labels).astype(losses.dtype)
    return jnp.sum(losses * there) / jnp.maximum(jnp.sum(there), 1)


def _gradient(model: Model, params: Any, x: Array, y: Array) -> Tree:
    return jax.grad(lambda params: cross_entropy(model.logits(params, x), y))(params)


def _gradient_pullback(model: Model, params: Any, x: Array, y: Array, v: Tree) -> Array:
    """grad_x <grad_params L, v> = d/de grad_x L(params + e v, x, y) at e = 0.

    Second derivatives commute: forward over reverse needs no weight gradient, and keeps none.
    """

    def by_images(params):
        return jax.grad(lambda x: cross_entropy(model.logits(params, x), y))(x)

    return jax.jvp(by_images, (params,), (v,))[1]


loss_gradient = Signal(_gradient, mean_over_images=True, pullback=_gradient_pullback)
"""g(params, x, y) = grad_params CE(logits(params, x), y)      (arXiv 2208.00311, sec. 3)."""


def pullback(signal: Signal) -> Callable[..., Float[Array, "n h w c"]]:
    """`(model, params, x, y, v) -> grad_x <signal, v>`: the signal's own, or by `jax.vjp`.

    With v = dL/dsignal this is dL/dx by the chain rule.
    """
    if signal.pullback is not None:
        return signal.pullback

    def by_reverse_mode(model, params, x, y, v):
        return jax.vjp(lambda x: signal.of(model, params, x, y), x)[1](v)[0]

    return by_reverse_mode


def class_mean(signals: Tree) -> Tree:
    """mean_c of per-class signals [C, ...]; of gradients: that of the class-balanced loss.

    >>> class_mean({"w": jnp.array([[1.0, 2.0], [3.0, 6.0]])})["w"].tolist()
    [2.0, 4.0]

    As a product: on a CPU, a reduction over the first axis took a twelfth of the synthetic part.
    """

    def mean(g):
        share = jnp.full(len(g), 1 / len(g), g.dtype)
        return jnp.tensordot(share, g, 1, precision=jax.lax.Precision.HIGHEST)

    return jax.tree.map(mean, signals)
