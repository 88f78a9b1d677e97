"""Signals: class gradients, their mean, microbatches, pullbacks, padding."""

import jax
import jax.numpy as jnp
import pytest

from gm_jax.core import signals
from gm_jax.core.batching import microbatched, microbatched_pullback, per_class
from gm_jax.core.signals import Model, cross_entropy, loss_gradient
from gm_jax.data.spread import class_mean

KEY = jax.random.key(0)
PARAMS = {"w": jax.random.normal(KEY, (4, 3)), "v": jax.random.normal(KEY, (3, 3))}
X = jax.random.normal(jax.random.key(1), (3, 5, 2, 2, 1))  # 3 classes of 5 images
Y = jnp.broadcast_to(jnp.arange(3)[:, None], (3, 5))


def apply(params, x):
    return jnp.tanh(x.reshape(len(x), -1) @ params["w"]) @ params["v"]


def loss(params, x, y):
    return cross_entropy(apply(params, x), y)


MODEL = Model(apply, lambda params, x: jnp.tanh(x.reshape(len(x), -1) @ params["w"]))


def signal(params, x, y):
    return loss_gradient.of(MODEL, params, x, y)


def pullback(size):
    pull = signals.pullback(loss_gradient)
    return microbatched_pullback(lambda *arguments: pull(MODEL, *arguments), size)


def assert_close(a, b):
    for p, q in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert jnp.allclose(p, q, rtol=1e-5, atol=1e-6)


def test_cross_entropy_by_hand():
    """softmax(0, log 3) = (1/4, 3/4); labels 1 and 0; the padding (-1) counts nothing."""
    logits = jnp.array([[0.0, jnp.log(3.0)], [0.0, jnp.log(3.0)], [5.0, -5.0]])
    expected = (-jnp.log(3 / 4) - jnp.log(1 / 4)) / 2
    assert jnp.allclose(cross_entropy(logits, jnp.array([1, 0, -1])), expected)
    assert cross_entropy(logits, jnp.full(3, -1)) == 0


def test_mean_of_the_class_gradients_is_the_gradient_of_the_balanced_loss():
    classes = per_class(signal, 1)(PARAMS, X, Y)
    balanced = jax.grad(loss)(PARAMS, X.reshape(-1, 2, 2, 1), Y.reshape(-1))
    assert_close(class_mean(classes), balanced)


@pytest.mark.parametrize("chunk", [1, 2, 3, None])
def test_per_class_is_the_same_in_any_chunks(chunk):
    alone = [signal(PARAMS, x, y) for x, y in zip(X, Y)]
    expected = jax.tree.map(lambda *g: jnp.stack(g), *alone)
    assert_close(per_class(signal, chunk)(PARAMS, X, Y), expected)


@pytest.mark.parametrize("size", [None, 1, 2, 3, 5, 9])
@pytest.mark.parametrize("labels", [[0, 0, 0, 0, 0], [0, -1, 0, 0, -1], [-1] * 5])
def test_microbatches_change_nothing(size, labels):
    y = jnp.array(labels)
    assert_close(microbatched(signal, size)(PARAMS, X[0], y), signal(PARAMS, X[0], y))
    v = jax.tree.map(jnp.ones_like, PARAMS)
    plain = jax.vjp(lambda x: jax.grad(loss)(PARAMS, x, y), X[0])[1](v)[0]
    assert_close(pullback(size)(PARAMS, X[0], y, v), plain)


def test_padding_counts_nothing():
    """Two images and three of padding: the gradient and the pullback of the two alone."""
    y = jnp.array([0, 0, -1, -1, -1])
    assert_close(signal(PARAMS, X[0], y), signal(PARAMS, X[0, :2], y[:2]))
    v = jax.tree.map(jnp.ones_like, PARAMS)
    pulled = pullback(2)(PARAMS, X[0], y, v)
    assert_close(pulled[:2], pullback(None)(PARAMS, X[0, :2], y[:2], v))
    assert jnp.all(pulled[2:] == 0)


def test_microbatches_of_networks_that_zeros_make_infinite():
    """Each image divided by its own deviation, which of an image of zeros is 0: 3 images by 2."""

    def standardised(params, x, y):
        centred = x - x.mean((1, 2, 3), keepdims=True)
        return loss(params, centred / centred.std((1, 2, 3), keepdims=True), y)

    x, y, v = X[0, :3], Y[0, :3], jax.tree.map(jnp.ones_like, PARAMS)
    gradient = jax.grad(standardised)
    assert_close(microbatched(gradient, 2)(PARAMS, x, y), gradient(PARAMS, x, y))
    pull = lambda params, x, y, v: jax.vjp(lambda x: gradient(params, x, y), x)[1](v)[0]
    assert_close(microbatched_pullback(pull, 2)(PARAMS, x, y, v), pull(PARAMS, x, y, v))


def test_derivatives_of_the_pullback_are_those_of_reverse_mode(x64):
    """By parameters, images and cotangents: the written-out pullback, forward over reverse."""
    params, x = jax.tree.map(lambda t: t.astype(float), (PARAMS, X[0]))
    v = jax.tree.map(jnp.cos, params)
    ours = lambda params, x, v: signals.pullback(loss_gradient)(MODEL, params, x, Y[0], v)
    plain = lambda params, x, v: jax.vjp(lambda x: jax.grad(loss)(params, x, Y[0]), x)[1](v)[0]
    total = lambda pull: lambda *arguments: jnp.sum(jnp.sin(pull(*arguments)))
    for of in (total, lambda pull: total(jax.grad(total(pull), 1))):
        assert_close(*(jax.grad(of(pull), (0, 1, 2))(params, x, v) for pull in (ours, plain)))
