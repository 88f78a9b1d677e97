"""Variants whose parts are not what they must be: each is told in one line that names the part."""

import jax
import jax.numpy as jnp
import optax
import pytest

from gm_jax import Config, ConvNet, Signal, UserError, load
from gm_jax.core.distances import cosine_global, mse_global
from gm_jax.core.objectives import MatchInfo, within
from gm_jax.core.parametrisation import pixels
from gm_jax.core.signals import (
    features,
    gauss_newton_gradient,
    head_curvature,
    hessian_gradient,
    k_step,
    loss_gradient,
    together,
)
from gm_jax.variant_check import check_variant

CONFIG = Config(
    dataset="digits", ipc=2, width=4, depth=1, batch_real=4, outer_steps=2, inner_epochs=1
)


@pytest.fixture(scope="module")
def digits():
    return load("digits")


def with_(**parts):
    return lambda method: method._replace(**parts)


def with_learned(**changes):
    return with_(parametrisation=pixels._replace(**changes))


def with_objective(objective):
    return lambda method: method._replace(
        schemes=(method.schemes[0]._replace(objective=objective),)
    )


def each(model, params, x, y):
    """A row for each image: the mean forgotten."""
    return model.features(params, x)


def largest(model, params, x, y):
    return model.features(params, x).max(0)


def with_padding(model, params, x, y):
    return model.features(params, x).mean(0)


def total(model, params, x, y):
    return (y >= 0).astype(x.dtype) @ model.features(params, x)


def vector(a, b):
    return jnp.ones(3) * mse_global(a, b)


def loss_alone(place, distance, inter_weight, synthetic, real):
    return within(place, distance, inter_weight, synthetic, real).loss


def of_each_class(place, distance, inter_weight, synthetic, real):
    losses = jax.vmap(distance)(synthetic, real)
    return MatchInfo(losses, losses, losses)


def fails(method):
    return method.nothing


WRONG = {
    "no method": (lambda method: None, "must return a Method, not NoneType"),
    "no network": (with_(network=ConvNet(10)), "network must be a Network, not ConvNet"),
    "no signal": (with_(signal=each), "signal must be a Signal, not function"),
    "one scheme": (
        lambda method: method._replace(schemes=method.schemes[0]),
        "schemes must be a tuple",
    ),
    "no scheme": (with_(schemes=()), "at least one Scheme"),
    "a transformation": (with_(image_optimiser=optax.sgd(0.1)), "image_optimiser must be a func"),
    "a schedule": (with_(network_optimiser=optax.constant_schedule), "network_optimiser must be"),
    "half a step": (with_(outer_steps=2.5), "outer_steps is 2.5: must be a whole number"),
    "no step": (with_(outer_steps=0), "outer_steps is 0: must be a whole number, 1 or more"),
    "start": (
        with_learned(start=lambda images: images.ravel()),
        r"start must return an array \[10, 2, ...\], .*not float32\[1280\]",
    ),
    "project": (
        with_learned(project=lambda learned: jnp.concatenate([learned, learned], 2)),
        r"project must keep .*float32\[10, 2, 16, 8, 1\] of float32\[10, 2, 8, 8, 1\]",
    ),
    "decode": (
        with_learned(decode=lambda learned: learned.reshape(-1, *learned.shape[2:])),
        r"images \[10, n, 8, 8, 1\], not float32\[20, 8, 8, 1\]",
    ),
    "rows": (with_(signal=Signal(each, True), distance=mse_global), r"\[1, 64\].*\[2, 64\] of two"),
    "no real signal": (with_(real_signal=each), "real_signal must be a Signal, not function"),
    "shape of the real": (
        with_(signal=features, real_signal=loss_gradient),
        r"real_signal is dict of .*, but its signal float32\[64\]",
    ),
    "rows of the real": (
        with_(signal=Signal(largest, False), real_signal=Signal(each, True)),
        r"real_signal is float32\[1, 64\] of one image and",
    ),
    "no mean of the real": (
        with_(signal=features, real_signal=Signal(largest, True)),
        "real_signal is no mean over images",
    ),
    "no mean": (with_(signal=Signal(largest, True), distance=mse_global), "no mean over images"),
    "sum": (
        with_(signal=Signal(total, True), distance=mse_global),
        "no mean over images",
    ),
    "padding": (
        with_(signal=Signal(with_padding, True), distance=mse_global),
        "counts those labelled -1",
    ),
    "vector": (with_(distance=vector), r"distance must be a number, not float32\[3\]"),
    "loss alone": (with_objective(loss_alone), r"a MatchInfo of numbers, not float32\[\]"),
    "losses": (with_objective(of_each_class), r"MatchInfo of float32\[10\], float32\[10\]"),
    "error": (fails, r"AttributeError: .* \(.*test_variant_check.py, line"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_named(digits, case):
    variant, words = WRONG[case]
    with pytest.raises(UserError, match=words) as caught:
        check_variant(CONFIG, digits, variant)
    assert "\n" not in str(caught.value)


RIGHT = {
    "features": with_(signal=features, distance=cosine_global),
    "hessian_gradient": with_(signal=Signal(hessian_gradient.of, False)),
    "gauss_newton_gradient": with_(signal=gauss_newton_gradient),
    "head_curvature": with_(signal=together(loss_gradient, head_curvature)),
    "k_step": with_(signal=k_step(2, 0.1)),
    "steps of its own": with_(signal=k_step(3, 0.1), real_signal=k_step(2, 0.2)),
    "no mean that says so": with_(signal=Signal(largest, False), distance=mse_global),
    "adam": with_(image_optimiser=optax.adam),
    "vectors": with_learned(
        start=lambda images: images.reshape(*images.shape[:2], -1),
        decode=lambda learned: learned.reshape(*learned.shape[:2], 8, 8, 1),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", RIGHT)
def test_what_is_right_is_not_refused(digits, case):
    check_variant(CONFIG, digits, RIGHT[case])
