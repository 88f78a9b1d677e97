"""The diagonal of the last layer's Hessian, in closed form."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gm_jax.core.batching import mean_weights
from gm_jax.core.signals.signal import Images, Model, Signal
from gm_jax.data.images import Labels


def _head_curvature(
    model: Model, params: Any, x: Images, y: Labels
) -> Float[Array, "d_and_1 classes"]:
    p, a = jax.nn.softmax(model.logits(params, x)), model.features(params, x)
    a = jnp.concatenate([a, jnp.ones_like(a[:, :1])], 1)
    curvature = (mean_weights(y, a.dtype)[:, None] * p * (1 - p)).astype(a.dtype)
    return jnp.matmul((a * a).T, curvature, precision=jax.lax.Precision.HIGHEST)


head_curvature = Signal(_head_curvature, mean_over_images=True)
"""mean over images of a_j^2 p_k (1 - p_k), `[d + 1, classes]`      (LCMat, arXiv 2303.04449).

d^2 L / dW_jk^2 of logits a W + b, with p their softmax and a the last features; a_(d+1) = 1 stands
for the bias.  The network's last layer must be linear in its features.  It does not depend on the
labels: of hard and of soft ones that sum to 1, the cross-entropy has the same Hessian by logits.

LCMat matches it beside the gradient:

    signal = together(loss_gradient, head_curvature)
    distance = distances.by_part(cosine, l1, weights=(1, eps))

It is no kernel of a convolution: `of_convolutions` belongs around the gradient's distance alone.

Cost: beside the gradient, with its pullback, 0.4 to 0.5 times the gradient's time.
"""
