"""Signals: what of a network is matched.

A signal is a pure function of a network, its parameters and a group of images.  A label of -1 marks
padding, not an image: a signal must leave it out.

    signal                   what it is                                   a mean over images
    loss_gradient            g = grad L                                   yes
    k_step(k, lr)            change of the parameters by k steps of SGD   k = 1
    hessian_vector(v)        H v                                          yes
    hessian_gradient         H g                                          no
    gauss_newton_vector(v)   J^T H_L J v                                  yes
    gauss_newton_gradient    J^T H_L J g                                  no
    head_curvature           diagonal of the last layer's H               yes
    features                 mean of the last features                    yes
    together(a, b, ...)      several of them, each weighted               if all are

L is the mean cross-entropy, its derivatives are by the parameters.  docs/research.md shows how to
write another one; docs/performance.md has the cost of each.
"""

from gm_jax.core.signals.curvature import (
    gauss_newton_gradient,
    gauss_newton_vector,
    hessian_gradient,
    hessian_vector,
)
from gm_jax.core.signals.features import features
from gm_jax.core.signals.gradient import loss_gradient
from gm_jax.core.signals.head_curvature import head_curvature
from gm_jax.core.signals.k_step import k_step
from gm_jax.core.signals.signal import Model, Signal, cross_entropy, pullback
from gm_jax.core.signals.together import together

__all__ = [
    "Model",
    "Signal",
    "cross_entropy",
    "features",
    "gauss_newton_gradient",
    "gauss_newton_vector",
    "head_curvature",
    "hessian_gradient",
    "hessian_vector",
    "k_step",
    "loss_gradient",
    "pullback",
    "together",
]
