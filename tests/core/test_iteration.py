"""Iterations and runs: determinism, resuming, seeds, and a problem whose answer is known."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax.build import build_method, build_network, start_sets
from gm_jax.config import Config, list_sets
from gm_jax.core import distances, iteration, schemes, step_rules
from gm_jax.core.loop import Sets, compile_iteration, iterations, memory
from gm_jax.core.method import Method
from gm_jax.core.signals import Model, k_step
from gm_jax.core.starts import noise_images
from gm_jax.core.training import NetworkState
from gm_jax.data.drawing import draw_classes
from gm_jax.data.images import Batch, by_class, normalise
from gm_jax.data.loading import load
from gm_jax.evaluation.protocol import Protocol, accuracy, train
from gm_jax.nn.networks import from_functions

SMALL = Config(
    dataset="digits",
    ipc=2,
    width=4,
    depth=1,
    norm="none",
    iterations=3,
    outer_steps=3,
    inner_epochs=4,
    batch_real=12,
    microbatch=4,
)


@pytest.fixture(scope="module")
def digits():
    return load("digits")


def smooth(dataset):
    """A network without jumps in its derivatives."""
    return build_network(dataclasses.replace(SMALL, activation="sigmoid"), dataset)


@functools.cache
def compiled(config, chunk=1):
    """The program of a setting, whatever its seed, and how often it was traced."""
    digits, traces = load("digits"), []

    def method_of(swept):
        traces.append(swept)
        return build_method(config, digits, swept)

    return compile_iteration(method_of, start_sets(config, digits), digits.train, chunk), traces


def condensed(config, dataset, until, state=None, chunk=1):
    """The last state, and the infos of all iterations."""
    sets = start_sets(config, dataset)
    sets = sets if state is None else sets._replace(state=state)
    step, _ = compiled(dataclasses.replace(config, seed=0), chunk)
    infos = []
    for _, after, info in iterations(step, sets, dataset.train, until):
        infos.append(info)
        state = after
    return state, infos


def test_the_same_seed_gives_the_same_bits_and_another_does_not(digits):
    (one, infos), (two, again) = condensed(SMALL, digits, 2), condensed(SMALL, digits, 2)
    jax.tree.map(np.testing.assert_array_equal, (one, infos), (two, again))
    other = condensed(dataclasses.replace(SMALL, seed=1), digits, 2)[0]
    assert not np.array_equal(one.images, other.images)


def test_a_resumed_run_is_the_unbroken_run(digits):
    whole, infos = condensed(SMALL, digits, 3)
    half, first = condensed(SMALL, digits, 2)
    resumed, second = condensed(SMALL, digits, 3, half)
    jax.tree.map(np.testing.assert_array_equal, (whole, infos), (resumed, first + second))


@pytest.mark.slow
def test_many_seeds_are_single_runs(digits):
    together, infos = condensed(dataclasses.replace(SMALL, seed=5, seeds=2), digits, 2)
    for number in range(2):
        alone, single = condensed(dataclasses.replace(SMALL, seed=5 + number), digits, 2)
        np.testing.assert_allclose(together.images[number], alone.images[0], rtol=1e-4, atol=1e-5)
        for a, b in zip(infos, single):
            np.testing.assert_array_equal(a.inner_epochs[number], b.inner_epochs[0])


def test_infos_say_what_was_done(digits):
    _, infos = condensed(SMALL, digits, 3)
    assert len(infos) == 3
    for info in infos:
        assert info.match.loss.shape == (1, 3)
        np.testing.assert_allclose(info.match.loss, info.match.intra + info.match.inter, rtol=1e-5)
        epochs = info.inner_epochs[0]
        assert epochs[-1] == 0  # none follows the last outer step
        assert np.all((epochs[:-1] >= 1) & (epochs[:-1] <= 4))
        assert not np.any(~info.loss_rose[0] & (epochs < 4) & (np.arange(3) < 2))  # else it rose


def test_one_program_serves_all_iterations_and_seeds(digits):
    """It is traced once: the method is built in the first of all runs only."""
    for seed in (0, 3):
        condensed(dataclasses.replace(SMALL, seed=seed), digits, 3)
    assert len(compiled(SMALL, 1)[1]) == 1


def test_nothing_moves_between_host_and_device_during_a_run(digits):
    """But for what `iterations` fetches explicitly: whether a set is still finite."""
    step, _ = compiled(SMALL, 1)
    keys, swept, state = start_sets(SMALL, digits)
    with jax.transfer_guard("disallow_explicit"):
        for _ in range(2):
            state, _ = step(keys, swept, state, digits.train)
    assert state.iteration[0] == 2


def test_the_guard_of_the_test_above_would_see_a_transfer():
    with jax.transfer_guard("disallow_explicit"), pytest.raises(Exception, match="isallowed"):
        jax.device_put(np.ones(3))


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["none", "batch", "layer", "group"])
def test_every_norm_runs_and_moves_the_images(digits, norm):
    config = dataclasses.replace(SMALL, norm=norm, iterations=1)
    before = np.asarray(start_sets(config, digits).state.images)
    after, _ = condensed(config, digits, 1)
    assert np.all(np.isfinite(after.images))
    assert np.any(after.images != before)


@pytest.mark.slow
def test_a_class_smaller_than_the_real_batch_counts_by_its_images():
    """Matching against all 2 images of a class, padded to 5, is matching against those 2."""
    key = jax.random.key(0)
    network = from_functions(
        lambda key: {"w": jax.random.normal(key, (4, 2))},
        lambda params, x: x.reshape(len(x), -1) @ params["w"],
    )
    method = Method(network, (schemes.intra(batch_real=5),), step_rules.fixed(0), 1)
    pixels = np.random.default_rng(0).integers(0, 256, (7, 2, 2, 1)).astype(np.uint8)
    labels = np.array([0, 0, 1, 1, 1, 1, 1])
    data = by_class(pixels, labels, 2)
    keys = iteration.step_keys(key)
    real = draw_classes(keys.real, data, 5)
    assert real[1].tolist() == [[0, 0, -1, -1, -1], [1, 1, 1, 1, 1]]
    params, _ = network.init(key)
    images = jax.random.normal(key, (2, 1, 2, 2, 1))
    frozen = NetworkState(params, {}, None)
    start = iteration.place(method, jnp.array(0), jnp.array(0))
    match = functools.partial(iteration.match_images, method, start, keys, method.schemes[0])
    info, _ = jax.jit(match)(data, frozen, images)
    distance = 0.0
    for c in range(2):
        x, y = real[0][c][real[1][c] >= 0], real[1][c][real[1][c] >= 0]
        model = Model(lambda params, x: network.apply(params, {}, x), features=None)
        signal = lambda params, x, y: method.signal.of(model, params, x, y)  # noqa: B023
        ours = signal(params, images[c], jnp.full(1, c))
        distance += distances.cosine_l2(ours, signal(params, x, y))
    assert jnp.allclose(info.loss, distance, rtol=1e-5)


@pytest.mark.slow
def test_real_images_may_have_a_signal_of_their_own():
    """Three steps of training on synthetic images are matched to two longer ones on real images.

    The loss is the distance of the two changes of the parameters, and its gradient that.
    """
    key = jax.random.key(0)
    network = from_functions(
        lambda key: {"w": jax.random.normal(key, (4, 2))},
        lambda params, x: x.reshape(len(x), -1) @ params["w"],
    )
    three, two = k_step(3, 0.1), k_step(2, 0.5)
    method = Method(
        network,
        (schemes.intra(batch_real=3),),
        step_rules.fixed(0),
        1,
        distances.mse_global,
        three,
        two,
    )
    pixels = np.random.default_rng(0).integers(0, 256, (6, 2, 2, 1)).astype(np.uint8)
    data = by_class(pixels, np.array([0, 0, 0, 1, 1, 1]), 2)
    params, _ = network.init(key)
    images = jax.random.normal(key, (2, 2, 2, 2, 1))
    start = iteration.place(method, jnp.array(0), jnp.array(0))
    match = functools.partial(iteration.match_images, method, start, iteration.step_keys(key))
    info, gradient = jax.jit(functools.partial(match, method.schemes[0]))(
        data, NetworkState(params, {}, None), images
    )
    model = Model(lambda params, x: network.apply(params, {}, x), features=None)
    real = normalise(data.images, data.mean, data.std)

    def loss(images):
        """By hand: all three real images of a class are drawn."""
        changes = lambda signal, x, c: signal.of(model, params, x, jnp.full(len(x), c))["w"]
        of_class = lambda c: changes(three, images[c], c) - changes(two, real[c], c)
        return sum(jnp.sum(of_class(c) ** 2) for c in range(2))

    expected, by_images = jax.value_and_grad(loss)(images)
    assert jnp.allclose(info.loss, expected, rtol=1e-5)
    assert jnp.allclose(gradient, by_images, rtol=1e-4, atol=1e-6)


def test_two_gaussians_condense_to_one_image_a_class_that_teaches_the_boundary():
    """Classes N(+-m, 1) with m = (1, 1, 1, 1): by symmetry the synthetic difference must point
    along m, and a linear network trained on the two images reaches the Bayes rate, Phi(2) = 97.7 %.
    """
    rng = np.random.default_rng(0)
    labels = np.arange(600) % 2
    values = rng.standard_normal((600, 2, 2, 1)) + (2 * labels - 1)[:, None, None, None]
    pixels = np.clip(np.round(values * 25 + 128), 0, 255).astype(np.uint8)
    data = by_class(pixels, labels, 2, ((128 / 255,), (25 / 255,)))
    network = from_functions(
        lambda key: {"w": 0.1 * jax.random.normal(key, (4, 2))},
        lambda params, x: x.reshape(len(x), -1) @ params["w"],
    )
    method = Method(
        network=network,
        schemes=(schemes.multi_level(batch_real=128),),
        step_rule=step_rules.overfit(5),
        outer_steps=3,
    )
    key = jax.random.key(1)
    state = iteration.init(method, noise_images(key, data, 1))
    state = jax.tree.map(lambda a: a[None], state)
    sets = Sets(key[None], (), state)
    step = compile_iteration(lambda swept: method, sets, data)
    *_, (_, state, _) = iterations(step, sets, data, 60)
    x, y = state.images[0].reshape(2, 2, 2, 1), jnp.arange(2)
    between = (x[1] - x[0]).ravel()
    assert jnp.sum(between) / (2 * jnp.linalg.norm(between)) > 0.97  # cosine with (1, 1, 1, 1)
    network_state, _ = train(key, network, Protocol(epochs=100), x, y)
    test_x = draw_classes(key, data, 300)[0].reshape(-1, 2, 2, 1)
    reached = accuracy(network, network_state, test_x, jnp.repeat(jnp.arange(2), 300))
    assert abs(reached - 0.977) < 0.025


def test_an_iteration_of_one_step_is_differentiated_in_reverse(digits):
    """d(sum of images after it) / d(images before): <gradient, v> is the derivative along v."""
    method = build_method(dataclasses.replace(SMALL, outer_steps=1), digits)
    method = method._replace(network=smooth(digits))
    keys, _, state = start_sets(dataclasses.replace(SMALL, outer_steps=1), digits)
    state = jax.tree.map(lambda a: a[0], state)

    def total(images):
        after, _ = iteration.iteration(method, keys[0], digits.train, state._replace(images=images))
        return jnp.sum(jnp.sin(after.images))

    v = jnp.cos(state.images)
    gradient = jax.jit(jax.grad(total))(state.images)
    along = jax.jit(lambda x, v: jax.jvp(total, (x,), (v,))[1])(state.images, v)
    assert jnp.vdot(gradient, v) == pytest.approx(float(along), rel=1e-3)
    assert jnp.abs(along) > 1


@pytest.mark.slow
def test_condense_under_vmap_is_condense_alone(digits):
    """A user's own vmap over keys: each seed keeps its own count of inner epochs."""
    method = build_method(SMALL, digits)
    keys, _, state = start_sets(dataclasses.replace(SMALL, seeds=2), digits)
    step = lambda key, state: iteration.iteration(method, key, digits.train, state)
    together, info = jax.jit(jax.vmap(step))(keys, state)
    for number in range(2):
        alone, single = jax.jit(step)(keys[number], jax.tree.map(lambda a, n=number: a[n], state))
        np.testing.assert_allclose(together.images[number], alone.images, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(info.inner_epochs[number], single.inner_epochs)


@pytest.mark.parametrize("chunk", [None, pytest.param(2, marks=pytest.mark.slow)])
def test_seeds_in_any_chunks_are_the_same_runs(digits, chunk):
    """Three seeds at once, or two and one: each keeps its own count of inner epochs."""
    config = dataclasses.replace(SMALL, seeds=3)
    (one_by_one, infos), (together, others) = (
        condensed(config, digits, 2),
        condensed(config, digits, 2, None, chunk),
    )
    np.testing.assert_allclose(together.images, one_by_one.images, rtol=1e-3, atol=1e-4)
    for info, other in zip(infos, others, strict=True):
        np.testing.assert_array_equal(info.inner_epochs, other.inner_epochs)


@pytest.mark.slow
def test_swept_values_are_runs_with_those_values(digits):
    """2 x 1 x 2 sets of one seed; each is the run that has those values alone."""
    swept = dataclasses.replace(SMALL, image_lr=(0.1, 0.5), inter_weight=(0.0, 10.0))
    together, _ = condensed(swept, digits, 2)
    combinations = [(0.1, 0.0), (0.1, 10.0), (0.5, 0.0), (0.5, 10.0)]
    assert [(r.image_lr, r.inter_weight) for _, r in list_sets(swept)] == combinations
    for at, (lr, weight) in enumerate(combinations):
        alone = dataclasses.replace(SMALL, image_lr=(lr,), inter_weight=(weight,))
        images = condensed(alone, digits, 2)[0].images[0]
        np.testing.assert_allclose(together.images[at], images, rtol=1e-4, atol=1e-5)
    assert not np.allclose(together.images[0], together.images[1], atol=1e-3)


@pytest.mark.parametrize(("microbatch", "loops"), [(20, False), (19, True)])
def test_classes_go_at_once_where_their_images_fit_in_a_microbatch(digits, microbatch, loops):
    """10 classes of 2 images: at once in microbatches of 20, in a loop over classes in 19."""
    method = build_method(dataclasses.replace(SMALL, microbatch=microbatch), digits)
    network = NetworkState(*method.network.init(jax.random.key(0)), None)
    images = jnp.zeros((10, 2, 8, 8, 1))
    groups = Batch(images, schemes.class_labels(images))
    program = jax.make_jaxpr(functools.partial(iteration.group_signals, method))(network, groups)
    assert ("scan" in str(program)) == loops


def test_memory_counts_the_arguments(digits):
    """8x8 digits, uint8: at least a byte a pixel, and float32 images with their momentum."""
    found = memory(compiled(SMALL, 1)[0])
    assert found.arguments >= digits.train.images.size + 2 * 4 * 10 * 2 * 64
    assert found.temporary > 0
