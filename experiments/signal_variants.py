"""What is matched, as variants of the method: rows of table 5, and of the costs of signals.

Signals of other units are weighted so that the paper's distance sees numbers of a gradient's size.
"""

from typing import Any

import jax
import jax.numpy as jnp

from gm_jax.core import distances, signals
from gm_jax.core.method import Method, unchanged

STEPS_LR = 0.001
"""Learning rate of the steps of training that are matched.

At the inner epochs' 0.01, the first step on images of one class takes all but 2 % of their loss in
a fresh ConvNet, and the gradients that follow are a few percent as long: several steps are one.  At
0.001 the fourth is still half as long as the first, or more.
"""

PRODUCT_WEIGHT = 0.01
"""Of products of the Hessian or the Gauss-Newton matrix with the gradient.

They are some 50 (`digits`) to 140 times (Fashion-MNIST) as long as the gradient in a fresh ConvNet,
and would move the images as much further, at the gradient's learning rate.
"""

CURVATURE_WEIGHT = 0.1
"""Of the l1 distance between curvatures of the last layer, beside that between gradients."""


def gradient(method: Method) -> Method:
    """The paper's."""
    return unchanged(method)


def two_steps(method: Method) -> Method:
    """Two steps of SGD on the group, divided by -2 times their learning rate."""
    return _steps(method, 2)


def four_steps(method: Method) -> Method:
    """Four steps of SGD on the group, divided by -4 times their learning rate."""
    return _steps(method, 4)


def _steps(method: Method, k: int) -> Method:
    steps = signals.k_step(k, STEPS_LR)
    mean_gradient = signals.together(steps, weights=(-1 / (k * STEPS_LR),))
    return method._replace(signal=mean_gradient)


def hessian_gradient(method: Method) -> Method:
    """0.01 times the Hessian times the gradient."""
    product = signals.together(signals.hessian_gradient, weights=(PRODUCT_WEIGHT,))
    return method._replace(signal=product)


def gauss_newton_gradient(method: Method) -> Method:
    """0.01 times the Gauss-Newton matrix times the gradient."""
    product = signals.together(signals.gauss_newton_gradient, weights=(PRODUCT_WEIGHT,))
    return method._replace(signal=product)


def hessian_vector(method: Method) -> Method:
    """The Hessian times a random vector of unit length, the same for all networks."""
    return method._replace(signal=signals.hessian_vector(_direction(method)))


def gauss_newton_vector(method: Method) -> Method:
    """The Gauss-Newton matrix times a random vector of unit length, the same for all networks."""
    return method._replace(signal=signals.gauss_newton_vector(_direction(method)))


def _direction(method: Method) -> Any:
    params, _ = jax.eval_shape(method.network.init, jax.random.key(0))
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(0), len(leaves))
    drawn = [jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves)]
    length = jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in drawn))
    return jax.tree.unflatten(structure, [leaf / length for leaf in drawn])


def head_curvature(method: Method) -> Method:
    """The gradient, and the diagonal of the last layer's Hessian: D + 0.1 l1 (LCMat)."""
    weights = (1, CURVATURE_WEIGHT)
    return method._replace(
        signal=signals.together(signals.loss_gradient, signals.head_curvature),
        distance=distances.by_part(method.distance, distances.l1, weights=weights),
    )


def with_features(method: Method) -> Method:
    """The gradient, and the mean of the last features: D + ||f_S - f_T||^2."""
    return method._replace(
        signal=signals.together(signals.loss_gradient, signals.features),
        distance=distances.by_part(method.distance, distances.mse_global),
    )


def features(method: Method) -> Method:
    """The mean of the last features alone: ||f_S - f_T||^2 (DM)."""
    return method._replace(signal=signals.features, distance=distances.mse_global)
