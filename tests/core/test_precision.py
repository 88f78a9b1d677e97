"""What accelerators make of float32 products, emulated: golden errors of a matching step.

A TPU multiplies numbers of 8 significant bits (bfloat16): one product, or three of the leading and
following parts; a GPU numbers of 11 bits (TensorFloat-32).  Sums are in float32.  The factors of
every product and convolution of the traced step are rounded so, but those that ask for the highest
precision themselves.
"""

import functools

import jax
import numpy as np
import pytest
from test_golden import START, given_images, golden, matching_case

from gm_jax.build import build_method, start_sets
from gm_jax.config import Config
from gm_jax.core import iteration, schemes, step_rules
from gm_jax.core.loop import compile_iteration
from gm_jax.core.method import Method
from gm_jax.core.training import NetworkState
from gm_jax.data.loading import load

PRODUCTS = {
    "dot_general",
    "conv_general_dilated",
    "gm_convolve",
    "gm_input_gradient",
    "gm_weight_gradient",
}


def rounded(bits):
    return functools.partial(jax.lax.reduce_precision, exponent_bits=8, mantissa_bits=bits)


def one_pass(bits):
    return lambda product, a, b: product(rounded(bits)(a), rounded(bits)(b))


def three_passes(product, a, b):
    (high_a, low_a), (high_b, low_b) = (
        (h, rounded(7)(x - h)) for x in (a, b) for h in [rounded(7)(x)]
    )
    return product(high_a, high_b) + product(high_a, low_b) + product(low_a, high_b)


def emulated(function, multiply):
    """The function with another multiplication in its products: `(product, a, b) -> a b`."""

    def run(jaxpr, constants, arguments):
        values = dict(zip(jaxpr.constvars, constants)) | dict(zip(jaxpr.invars, arguments))
        read = lambda of: of.val if isinstance(of, jax.extend.core.Literal) else values[of]
        for equation in jaxpr.eqns:
            inputs, params = [read(of) for of in equation.invars], equation.params
            inner = params.get("jaxpr", params.get("call_jaxpr"))
            bind = lambda *inputs, e=equation: e.primitive.bind(*inputs, **e.params)
            first = lambda *inputs, bind=bind: jax.tree.leaves(bind(*inputs))[0]
            name, asked = equation.primitive.name, str(params.get("precision"))
            if inner is not None:
                outputs = run(getattr(inner, "jaxpr", inner), getattr(inner, "consts", ()), inputs)
            elif name in PRODUCTS and "HIGHEST" not in asked:
                outputs = [multiply(first, *inputs)]
            else:
                assert name not in ("scan", "while", "cond")  # would be computed as it is
                outputs = jax.tree.leaves(bind(*inputs))
            values |= dict(zip(equation.outvars, outputs))
        return [read(of) for of in jaxpr.outvars]

    def call(*arguments):
        closed, shape = jax.make_jaxpr(function, return_shape=True)(*arguments)
        found = run(closed.jaxpr, closed.consts, jax.tree.leaves(arguments))
        return jax.tree.unflatten(jax.tree.structure(shape), found)

    return call


@pytest.mark.slow
@pytest.mark.parametrize(
    ("multiply", "of_loss", "of_images"),
    [
        pytest.param(lambda product, a, b: product(a, b), 1e-5, 1e-4, id="float32"),
        pytest.param(three_passes, 1e-4, 1e-2, id="bfloat16 in 3 passes"),
        pytest.param(one_pass(10), 1e-3, 5e-2, id="TensorFloat-32"),
        pytest.param(one_pass(7), 1e-2, 0.2, id="bfloat16 in 1 pass"),
    ],
)
def test_golden_errors(multiply, of_loss, of_images):
    """Relative errors of the loss and, in length, of its gradient by the images."""
    with jax.enable_x64(False):
        case = matching_case("matching_rgb", False)
        method = Method(
            case.network, (schemes.multi_level(),), step_rules.fixed(0), 1, class_chunk=None
        )
        keys = iteration.step_keys(jax.random.key(0))
        match = functools.partial(iteration.match_images, method, START, keys, method.schemes[0])
        step = emulated(match, multiply)
        network = NetworkState(case.params, {}, None)
        info, gradient = jax.jit(step)(given_images(case.real[0]), network, case.synthetic)
        loss_error = golden.error(info.loss, case.arrays["multi_level/improved/loss"])
        expected = case.arrays["multi_level/improved/grad_syn"]
        images_error = np.linalg.norm(golden.torch_images(gradient) - expected)
        assert loss_error < of_loss
        assert images_error < of_images * np.linalg.norm(expected)


@pytest.mark.slow
def test_the_precision_is_that_of_every_product():
    """In the program's text: all products ask for the highest, or only those that always do."""
    data = load("digits")

    def asked(precision):
        config = Config(width=4, depth=1, outer_steps=1, batch_real=4, precision=precision)
        method_of = lambda swept: build_method(config, data, swept)
        with jax.default_matmul_precision(precision):
            step = compile_iteration(method_of, start_sets(config, data), data.train)
        lines = step.as_text().splitlines()
        return [line for line in lines if " dot(" in line or " convolution(" in line]

    highest = asked("highest")
    assert highest
    assert all("operand_precision={highest,highest}" in line for line in highest)
    assert not all("operand_precision={highest,highest}" in line for line in asked("default"))
