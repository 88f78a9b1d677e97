"""The change of the parameters by several steps of training: unrolled matching."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gm_jax.core.signals.signal import Model, Signal, Tree, cross_entropy
from gm_jax.errors import UserError

Rate = Float[Array, ""] | float | int


def k_step(k: int, lr: Rate) -> Signal:
    """params_k - params_0 of params_(i+1) = params_i - lr grad L(params_i, x, y), i < k.

    The steps of plain SGD on the whole group; for k = 1 it is -lr times the loss gradient, for k =
    2 it is -2 lr g + lr^2 H g + O(lr^3).  Meta-learning unrolls training in the same way (MAML,
    arXiv 1703.03400), and trajectories of training are what MTT matches (arXiv 2203.11932).

    On images of one class alone a large lr makes several steps one: in a fresh ConvNet, on `digits`
    and Fashion-MNIST, the first step of 0.01 takes 98 % of the loss or more, and those that follow
    are at most 4 % as long; at 0.001 the second is 0.86 to 0.93 times as long as the first, the
    fourth 0.5 to 0.7.

    Cost: with its pullback 1.5 to 1.6 k times the gradient's time: k gradients, then k gradients
    again and k Hessian-vector products.  Memory: a group's intermediates of one step, and k copies
    of the parameters.

    Args:
        k: steps, 1 or more.
        lr: their learning rate; `Method.network_lr` is the inner epochs'.

    Raises:
        UserError: k is no integer, or less than 1.
    """
    if not isinstance(k, int) or k < 1:
        raise UserError(f"k_step: k is {k!r}, must be an integer of 1 or more")

    def of(model, params, x, y):
        return _changes(_gradients(model, x, y), params, k, lr)[0]

    def pullback(model, params, x, y, v):
        """The chain rule from the last step to the first, by the symmetry of second derivatives.

        With params' = params - lr g(params, x) and v by params', <v, params'> has the derivative
        v - lr H v by params and -lr grad_x <g, v> by the images: both are parts of the derivative
        of (grad_params L, grad_x L) along v, forward over reverse.
        """
        by_both = _gradients(model, x, y, (0, 1))
        _, before = _changes(lambda params: by_both(params)[0], params, k, lr)

        def back(carry, change):
            v, by_images = carry
            at = _add(params, change)
            along_params, along_images = jax.jvp(by_both, (at,), (v,))[1]
            return (_add(v, along_params, -lr), _add(by_images, along_images, -lr)), None

        return jax.lax.scan(back, (v, jnp.zeros_like(x)), before, reverse=True)[0][1]

    return Signal(of, mean_over_images=k == 1, pullback=pullback)


def _gradients(model: Model, x: Array, y: Array, of: int | tuple[int, int] = 0) -> Callable:
    """`params -> grad L`, by the parameters, or by the parameters and the images."""
    loss = lambda params, x: cross_entropy(model.logits(params, x), y)
    return lambda params: jax.grad(loss, of)(params, x)


def _changes(gradient: Callable, params: Any, k: int, lr: Rate) -> tuple[Tree, Tree]:
    """The change after k steps, and those before each step `[k, ...]`.

    The change is what is carried: as a difference of parameters it would lose digits.
    """

    @jax.checkpoint
    def step(change, _):
        return _add(change, gradient(_add(params, change)), -lr), change

    return jax.lax.scan(step, jax.tree.map(jnp.zeros_like, params), length=k)


def _add(a: Tree, b: Tree, scale: Rate = 1) -> Tree:
    return jax.tree.map(lambda a, b: a + jnp.asarray(scale, b.dtype) * b, a, b)
