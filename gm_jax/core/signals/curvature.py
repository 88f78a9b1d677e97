"""Products of the Hessian and of the Gauss-Newton matrix with a vector: how the gradient turns.

No matrix is built: H v is a derivative of the gradient along v (Pearlmutter 1994), and the
Gauss-Newton product J^T H_L J v goes forward through the network, and back (Schraudolph 2002).
"""

from typing import Any

import jax
import jax.numpy as jnp

from gm_jax.core.signals.gradient import gradient, gradient_by_images
from gm_jax.core.signals.signal import Images, Model, Signal, Tree, cross_entropy
from gm_jax.data.images import Labels
from gm_jax.errors import UserError


def hessian_vector(v: Tree) -> Signal:
    """H v = d/de grad L(params + e v, x, y) at e = 0, with v the same for all networks.

    Cost: with its pullback 2.5 to 2.7 times the gradient's time, and 1.7 times its memory.  The
    pullback needs no weight gradients: grad_x <H v, u> is a derivative of grad_x L along v and u.

    Args:
        v: arrays of the parameters' shapes.

    Raises:
        UserError: from the signal, where v has other shapes than the parameters.
    """

    def of(model, params, x, y):
        return _hessian_product(model, params, x, y, _like(v, params, "hessian_vector"))

    def pullback(model, params, x, y, u):
        fixed = _like(v, params, "hessian_vector")

        def along_v(params):
            by_images = lambda params: gradient_by_images(model, params, x, y)
            return jax.jvp(by_images, (params,), (fixed,))[1]

        return jax.jvp(along_v, (params,), (u,))[1]

    return Signal(of, mean_over_images=True, pullback=pullback)


def gauss_newton_vector(v: Tree) -> Signal:
    """mean over images of J^T (diag(p) - p p^T) J v: J = dlogits/dparams, p the softmax.

    The Hessian without the curvature of the network, positive semi-definite.

    Cost: with its pullback, by reverse mode, 1.7 to 1.8 times the gradient's time, and 1.5 times
    its memory.

    Args:
        v: arrays of the parameters' shapes.

    Raises:
        UserError: from the signal, where v has other shapes than the parameters.
    """

    def of(model, params, x, y):
        fixed = _like(v, params, "gauss_newton_vector")
        return _gauss_newton_product(model, params, x, y, fixed)

    return Signal(of, mean_over_images=True)


def _hessian_gradient(model: Model, params: Any, x: Images, y: Labels) -> Tree:
    g = gradient(model, params, x, y)
    return _hessian_product(model, params, x, y, g)


def _gauss_newton_gradient(model: Model, params: Any, x: Images, y: Labels) -> Tree:
    g = gradient(model, params, x, y)
    return _gauss_newton_product(model, params, x, y, g)


hessian_gradient = Signal(_hessian_gradient, mean_over_images=False)
"""H g: how a small step along the gradient g changes it, grad ||g||^2 / 2.

In a fresh ConvNet it is some 50 (`digits`) to 140 times (Fashion-MNIST) as long as g, and so is the
step of the images: beside g, or at g's learning rate, give it a weight (`together`) of 0.01.

Cost: with its pullback, by reverse mode, 4.2 to 4.4 times the gradient's time; its memory grows
with the images of a group, which are taken at once.
"""

gauss_newton_gradient = Signal(_gauss_newton_gradient, mean_over_images=False)
"""J^T (diag(p) - p p^T) J g, mean over images within: the curvature along the gradient g.

As long as `hessian_gradient`, about: give it a weight too.

Cost: with its pullback, by reverse mode, 3 to 4 times the gradient's time; its memory grows with
the images of a group, which are taken at once.
"""


def _hessian_product(model: Model, params: Any, x: Images, y: Labels, v: Tree) -> Tree:
    return jax.jvp(lambda params: gradient(model, params, x, y), (params,), (v,))[1]


def _gauss_newton_product(model: Model, params: Any, x: Images, y: Labels, v: Tree) -> Tree:
    logits, push = jax.linearize(lambda params: model.logits(params, x), params)
    by_logits = jax.grad(lambda logits: cross_entropy(logits, y))
    turned = jax.jvp(by_logits, (logits,), (push(v),))[1]
    return jax.linear_transpose(push, params)(turned)[0]


def _like(v: Tree, params: Any, name: str) -> Tree:
    """v with the parameters' types.

    Raises:
        UserError: its shapes are others.
    """
    shapes, wanted = (jax.tree.map(jnp.shape, tree) for tree in (v, params))
    if shapes != wanted:
        raise UserError(f"{name}: v has the shapes {shapes}, must be the parameters': {wanted}")
    return jax.tree.map(lambda v, p: jnp.asarray(v, p.dtype), v, params)
