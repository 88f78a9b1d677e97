"""Schemes: which images are drawn, and what an iteration matches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax.build import build_method, start_sets
from gm_jax.config import Config
from gm_jax.core import iteration, schemes
from gm_jax.core.loop import compile_iteration, iterations
from gm_jax.core.objectives import Place
from gm_jax.core.signals import cross_entropy
from gm_jax.core.training import NetworkState
from gm_jax.data.images import by_class, normalise
from gm_jax.data.loading import load

START = Place(jnp.array(0), jnp.array(0), jnp.array(False))
SMALL = Config(dataset="digits", ipc=2, width=8, depth=1, norm="none", batch_real=5, outer_steps=1)


@pytest.fixture(scope="module")
def data():
    """Three classes of 4, 6 and 8 images of 2x2; every image has one grey level, unlike all."""
    labels = np.repeat(np.arange(3), (4, 6, 8))
    pixels = np.broadcast_to(np.arange(18, dtype=np.uint8)[:, None, None, None], (18, 2, 2, 1))
    return by_class(np.array(pixels), labels, 3)


def levels(images, data):
    """The grey levels that normalised images had."""
    values = np.asarray(images) * np.asarray(data.std) + np.asarray(data.mean)
    return np.round(values[..., 0, 0, 0] * 255).astype(int)


def test_classes_are_drawn_apart(data):
    scheme = schemes.intra(batch_real=3)
    x, y = scheme.real(jax.random.key(0), data)
    assert y.tolist() == [[c] * 3 for c in range(3)]
    for row, (first, last) in zip(levels(x, data), ((0, 4), (4, 10), (10, 18))):
        assert len(set(row)) == 3
        assert all(first <= level < last for level in row)


def test_mixed_classes_are_one_group_drawn_without_replacement(data):
    scheme = schemes.inter(batch_real=12, batch_synthetic=4)
    x, y = scheme.real(jax.random.key(0), data)
    assert x.shape == (1, 12, 2, 2, 1)
    found = levels(x, data)[0]
    assert len(set(found)) == 12
    assert y[0].tolist() == [0 if n < 4 else 1 if n < 10 else 2 for n in found]


def test_many_synthetic_images_give_a_batch_of_some_and_few_give_all():
    images = jnp.arange(6.0).reshape(3, 2, 1, 1, 1)  # image n of class n // 2
    for limit, expected in ((4, 4), (6, 6), (256, 6)):
        scheme = schemes.inter(batch_synthetic=limit)
        x, y = scheme.synthetic(jax.random.key(0), images)
        numbers = x.reshape(-1).astype(int).tolist()
        assert x.shape[:2] == (1, expected)
        assert len(set(numbers)) == expected
        assert y[0].tolist() == [n // 2 for n in numbers]


@pytest.mark.slow
def test_the_inter_loss_is_c_times_the_distance_of_the_mixed_batches_gradients():
    """D = |a - b|^2 of the gradients of all synthetic and all real images, C = 10."""
    digits = load("digits")
    config = Config(**{**vars(SMALL), "scheme": "inter", "distance": "mse-global"})
    method = build_method(config, digits)
    images = start_sets(config, digits).state.images[0]
    params, stats = method.network.init(jax.random.key(3))
    every = digits.train.images.reshape(-1, *digits.image_shape)
    real = normalise(every, digits.train.mean, digits.train.std)
    real_y = jnp.repeat(jnp.arange(10, dtype=jnp.int32), digits.train.images.shape[1])
    scheme = schemes.inter(batch_real=10**6)
    frozen = NetworkState(params, stats, None)
    keys = iteration.step_keys(jax.random.key(0))
    info, gradient = iteration.match_images(
        method, START, keys, scheme, digits.train, frozen, images
    )

    def loss(images):
        x = images.reshape(-1, *digits.image_shape)
        of = lambda x, y: jax.grad(lambda p: cross_entropy(method.network.apply(p, stats, x), y))
        ours = of(x, jnp.repeat(jnp.arange(10, dtype=jnp.int32), 2))(params)
        theirs = of(real, real_y)(params)
        return 10 * sum(
            jnp.sum((a - b) ** 2) for a, b in zip(*map(jax.tree.leaves, (ours, theirs)))
        )

    expected, expected_gradient = jax.value_and_grad(loss)(images)
    np.testing.assert_allclose(info.loss, expected, rtol=1e-4)
    assert (info.intra, info.inter) == (0, info.loss)
    np.testing.assert_allclose(gradient, expected_gradient, atol=1e-3 * np.abs(gradient).max())


@pytest.mark.slow
def test_images_that_were_not_drawn_do_not_move():
    digits = load("digits")
    config = Config(**{**vars(SMALL), "scheme": "inter"})
    method = build_method(config, digits)
    scheme = schemes.inter(batch_real=50, batch_synthetic=3)
    images = start_sets(config, digits).state.images[0]
    frozen = NetworkState(*method.network.init(jax.random.key(3)), None)
    keys = iteration.step_keys(jax.random.key(0))
    _, gradient = iteration.match_images(method, START, keys, scheme, digits.train, frozen, images)
    assert np.sum(np.any(np.asarray(gradient) != 0, (2, 3, 4))) == 3


@pytest.mark.slow
def test_interleaved_is_intra_in_even_iterations_and_inter_in_odd_ones():
    """Iteration 0 is intra's, to rounding; from its images, iteration 1 is inter's."""
    digits = load("digits")

    def images(scheme, until, state=None):
        config = Config(**{**vars(SMALL), "scheme": scheme, "batch_real": Config.batch_real})
        method = build_method(config, digits)
        starts = start_sets(config, digits)
        starts = starts if state is None else starts._replace(state=state)
        step = compile_iteration(lambda swept: method, starts, digits.train)
        *_, (_, state, _) = iterations(step, starts, digits.train, until)
        return state

    np.testing.assert_allclose(
        images("interleaved", 1).images, images("intra", 1).images, rtol=1e-6, atol=1e-7
    )
    np.testing.assert_allclose(
        images("interleaved", 2).images,
        images("inter", 2, images("intra", 1)).images,
        rtol=1e-5,
        atol=1e-6,
    )
