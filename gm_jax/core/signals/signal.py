"""What a signal is, and what all signals share."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from gm_jax.core.batching import present
from gm_jax.data.images import Labels

Tree = Any
Images = Float[Array, "n h w c"]


class Model(NamedTuple):
    """A network with its running statistics fixed: what a signal is taken of.

    Attributes:
        logits: `(params, x [n, h, w, c]) -> [n, classes]`.
        features: `(params, x [n, h, w, c]) -> [n, d]`, what the last dense layer sees.
    """

    logits: Callable[[Any, Images], Float[Array, "n classes"]]
    features: Callable[[Any, Images], Float[Array, "n d"]]


class Signal(NamedTuple):
    """What of a network is matched.

    Attributes:
        of: `(model, params, x [n, h, w, c], y) -> pytree`; labels as in `data.images.Batch`.
        mean_over_images: whether the signal of n images is the mean of their n signals, images with
            label -1 left out.  Such a signal is computed in microbatches, and the mean over classes
            is the signal of the class-balanced batch.  Any other one (the result of several
            training steps, a normalised vector) must say False.  It is computed on the whole group
            at once, and a microbatch that was asked for is refused; across classes, objectives
            still take the mean of the classes' signals, which is then no signal of any batch.  A
            run tries a True on two images, and refuses a wrong one.
        pullback: `(model, params, x, y, v) -> grad_x <of(model, params, x, y), v>` where a signal
            knows a cheaper way than reverse-mode differentiation of `of`, which `None` stands for.
    """

    of: Callable[[Model, Any, Images, Labels], Tree]
    mean_over_images: bool
    pullback: Callable[..., Images] | None = None


def cross_entropy(logits: Float[Array, "n classes"], labels: Labels) -> Float[Array, ""]:
    """Mean of -sum_k p_k log softmax(logits)_k over the images that are there; 0 if there are none.

    A hard label stands for the distribution that is 1 there; -1 marks padding.

    Examples:
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


def pullback(signal: Signal) -> Callable[..., Images]:
    """`(model, params, x, y, v) -> grad_x <signal, v>`: the signal's own, or by `jax.vjp`.

    With v = dL/dsignal this is dL/dx by the chain rule.
    """
    if signal.pullback is not None:
        return signal.pullback

    def by_reverse_mode(model, params, x, y, v):
        return jax.vjp(lambda x: signal.of(model, params, x, y), x)[1](v)[0]

    return by_reverse_mode
