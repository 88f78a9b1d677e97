"""The convolutions that an iteration computes, compared with those that the method needs."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import pytest
from jax.interpreters.partial_eval import dce_jaxpr

from gm_jax.build import build_method
from gm_jax.config import Config
from gm_jax.core import iteration
from gm_jax.data.loading import load

EPOCHS = 5
SETTINGS = Config(
    dataset="digits",
    ipc=3,
    width=4,
    depth=2,
    norm="none",
    outer_steps=2,
    inner_epochs=EPOCHS,
    batch_real=10,
    microbatch=5,
)
CLASSES, STEPS, VALIDATION = 10, 2, 20
LAYERS = [8 * 8 * 9 * 1 * 4, 4 * 4 * 9 * 4 * 4]
"""Multiplications of each convolution for an image: height, width, 3 x 3, channels in and out."""
FORWARD, FIRST = sum(LAYERS), LAYERS[0]
GRADIENT = 3 * FORWARD - FIRST
"""Forward, by the kernels, and by each layer's input but the image."""
PULLBACK = 6 * FORWARD - 2 * FIRST
"""d/de grad_x L(p + e v): forward W x and backward W^T d, of each the two parts of its derivative.
The image has no derivative by e, and the gradient by it at e = 0 is not asked for."""


def multiplications(jaxpr, epochs):
    """Of all convolutions; every `while` runs `epochs` times, `cond` takes its dearest branch."""
    total = 0
    for equation in jaxpr.eqns:
        name, params = equation.primitive.name, equation.params
        assert name != "conv_general_dilated"  # all are of our own primitives, which are counted
        shapes = [v.aval.shape for v in (*equation.invars, *equation.outvars)]
        if name == "gm_convolve":  # [G,N,H,W,I], [G,k,l,I,O] -> [G,N,h,w,O]
            total += math.prod(shapes[2]) * math.prod(shapes[1][1:4])
        elif name == "gm_input_gradient":  # [G,N,h,w,O], [G,k,l,I,O] -> [G,N,H,W,I]
            total += math.prod(shapes[0]) * math.prod(shapes[1][1:4])
        elif name == "gm_weight_gradient":  # [G,N,H,W,I], [G,N,h,w,O] -> [G,k,l,I,O]
            total += math.prod(shapes[1]) * math.prod(shapes[2][1:4])
        elif name == "scan":
            total += params["length"] * multiplications(params["jaxpr"].jaxpr, epochs)
        elif name == "while":
            total += epochs * multiplications(params["body_jaxpr"].jaxpr, epochs)
            total += (epochs + 1) * multiplications(params["cond_jaxpr"].jaxpr, epochs)
        elif name == "cond":
            total += max(multiplications(b.jaxpr, epochs) for b in params["branches"])
        else:
            inner = [p for p in params.values() if hasattr(p, "eqns") or hasattr(p, "jaxpr")]
            total += sum(multiplications(getattr(j, "jaxpr", j), epochs) for j in inner)
    return total


def of_iteration(config, epochs):
    """Multiplications of an iteration, without what no result depends on, which XLA leaves out."""
    data = load("digits")
    method = build_method(config, data)._replace(batch_validation=VALIDATION)

    def run(key, images):
        return iteration.iteration(method, key, data.train, iteration.init(method, images))

    images = jnp.zeros((CLASSES, config.ipc, 8, 8, 1))
    traced = jax.make_jaxpr(run)(jax.random.key(0), images).jaxpr
    needed, _ = dce_jaxpr(traced, [True] * len(traced.outvars))
    return multiplications(needed, epochs)


@pytest.mark.parametrize(("rule", "looks"), [("fixed", 0), ("overfit", EPOCHS + 1)])
def test_an_iteration_computes_what_the_method_needs_and_no_more(rule, looks):
    """A step: gradients of C x 10 real and C x 3 synthetic images, the pullback of the latter; then
    5 epochs of C x 3 gradients, and 20 images forward whenever the rule looks at its loss: at first
    and after each epoch.  (The last step has no epochs, but the same program: counted here.)
    """
    config = dataclasses.replace(SETTINGS, step_rule=rule)
    real, synthetic = CLASSES * config.batch_real, CLASSES * config.ipc
    match = (real + synthetic) * GRADIENT + synthetic * PULLBACK
    inner = EPOCHS * synthetic * GRADIENT + looks * VALIDATION * FORWARD
    assert of_iteration(config, EPOCHS) == STEPS * (match + inner)


@pytest.mark.parametrize("scheme", ["intra", "warm-up"])
def test_both_levels_share_their_gradients(scheme):
    """Two levels cost what one does: the mean over classes is that of the same signals."""
    one = dataclasses.replace(SETTINGS, scheme=scheme)
    assert of_iteration(SETTINGS, EPOCHS) == of_iteration(one, EPOCHS)
