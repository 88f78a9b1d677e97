"""The loss gradient: the paper's signal."""

from typing import Any

import jax

from gm_jax.core.signals.signal import Images, Model, Signal, Tree, cross_entropy
from gm_jax.data.images import Labels


def gradient(model: Model, params: Any, x: Images, y: Labels) -> Tree:
    """g(params, x, y) = grad_params CE(logits(params, x), y)."""
    return jax.grad(lambda params: cross_entropy(model.logits(params, x), y))(params)


def gradient_by_images(model: Model, params: Any, x: Images, y: Labels) -> Images:
    """grad_x CE(logits(params, x), y)."""
    return jax.grad(lambda x: cross_entropy(model.logits(params, x), y))(x)


def _pullback(model: Model, params: Any, x: Images, y: Labels, v: Tree) -> Images:
    """grad_x <grad_params L, v> = d/de grad_x L(params + e v, x, y) at e = 0.

    Second derivatives commute: forward over reverse needs no weight gradient, and keeps none.
    """
    return jax.jvp(lambda params: gradient_by_images(model, params, x, y), (params,), (v,))[1]


loss_gradient = Signal(gradient, mean_over_images=True, pullback=_pullback)
"""g(params, x, y) = grad_params CE(logits(params, x), y)      (arXiv 2208.00311, sec. 3)."""
