"""The calls of `gm_jax`: condensing, evaluating, variants, a loop of one's own, light imports."""

import dataclasses
import logging
import statistics
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gm_jax
from gm_jax.core import objectives
from gm_jax.data.host import HostImages

SMALL = {
    "dataset": "digits",
    "ipc": 1,
    "width": 4,
    "depth": 1,
    "norm": "none",
    "outer_steps": 1,
    "batch_real": 4,
    "iterations": 2,
}
CONFIG = gm_jax.Config(**SMALL)


@pytest.fixture(scope="module")
def digits():
    return gm_jax.load("digits")


@pytest.fixture(scope="module")
def plain(digits):
    """Condensed without a variant."""
    return gm_jax.condense(CONFIG, digits)


def manhattan(a, b):
    return sum(jnp.sum(jnp.abs(p - q)) for p, q in zip(jax.tree.leaves(a), jax.tree.leaves(b)))


def with_manhattan(method):
    return method._replace(distance=manhattan)


def features(model, params, x, y):
    """The mean features of the images that are there: of distribution matching."""
    present = (y >= 0).astype(x.dtype)
    return present @ model.features(params, x) / jnp.maximum(jnp.sum(present), 1)


def with_features(method):
    """One vector for each class: a tensor of one dimension, so the distance is of all numbers."""
    signal = gm_jax.Signal(features, mean_over_images=True)
    return method._replace(signal=signal, distance=lambda a, b: jnp.sum((a - b) ** 2))


def test_a_loop_of_ones_own_is_condense(digits, plain, caplog):
    """Numbers from 0, a state that goes on, infos of [sets, outer_steps]; the memory is logged."""
    caplog.set_level(logging.INFO, "gm_jax")
    numbers = []
    for number, state, info in gm_jax.iterations(CONFIG, digits):
        numbers.append(number)
        assert info.match.loss.shape == (1, 1)
        images = jax.device_get(state.images)  # a copy: the state is donated to the next iteration
    assert numbers == [0, 1]
    np.testing.assert_array_equal(images.reshape(plain.images.shape), plain.images)
    assert any(message.startswith("memory: ") for message in caplog.messages)


def test_a_distance_of_ones_own(digits, plain):
    """Other images than without; the record names the function and its file's digest."""
    ours = gm_jax.condense(CONFIG, digits, with_manhattan)
    assert not np.allclose(ours.images, plain.images, atol=1e-3)
    assert ours.variant.name.endswith("test_api:with_manhattan")
    assert len(ours.variant.sha256) == 64
    assert plain.variant is None


@pytest.mark.parametrize(
    "variant",
    [
        with_features,
        lambda method: method._replace(image_optimiser=optax.adam, image_lr=0.01),
        lambda method: method._replace(
            schemes=(method.schemes[0]._replace(objective=objectives.within),)
        ),
    ],
    ids=["signal", "optimiser", "objective"],
)
def test_every_part_can_be_replaced(digits, plain, variant):
    ours = gm_jax.condense(CONFIG, digits, variant)
    assert np.all(np.isfinite(ours.images))
    assert not np.allclose(ours.images, plain.images, atol=1e-3)


def test_vectors_are_learned_as_their_images_are(digits, plain):
    """Of 64 pixels and a brightness, which stays 0 as long as it is not decoded."""

    def start(images):
        vectors = images.reshape(*images.shape[:2], 64)
        return jnp.concatenate([vectors, jnp.zeros_like(vectors[..., :1])], -1)

    decode = lambda learned: learned[..., :64].reshape(*learned.shape[:2], 8, 8, 1)
    variant = lambda method: method._replace(
        parametrisation=method.parametrisation._replace(start=start, decode=decode)
    )
    ours = gm_jax.condense(CONFIG, digits, variant)
    assert ours.learned.shape == (1, 10, 1, 65)
    assert not ours.learned[..., 64].any()
    np.testing.assert_allclose(ours.images, plain.images, rtol=1e-5, atol=1e-6)


def test_an_optimiser_may_look_at_the_loss(digits):
    """It is stopped by the loss that it saw in the step before: no update after the first."""

    def seen(learning_rate):
        def update(gradient, last, params=None, *, value, **_):
            return -learning_rate * jnp.where(last == 0, 1, 0) * gradient, value

        init = lambda images: jnp.zeros(())
        return optax.GradientTransformationExtraArgs(init, update)

    variant = lambda method: method._replace(image_optimiser=seen)
    states = [
        (
            jax.device_get(state.images),
            jax.device_get(state.optimiser),
            float(info.match.loss[0, 0]),
        )
        for _, state, info in gm_jax.iterations(CONFIG, digits, variant)
    ]
    (first, saw, loss), (second, *_) = states
    np.testing.assert_allclose(saw, [loss], rtol=1e-6)  # summed in two places of one program
    np.testing.assert_array_equal(first, second)


def test_what_an_objective_adds_is_logged_and_a_variant_knows_the_runs_length(digits):
    """The share of the way, of 2 iterations: 0, then 1/2."""

    def variant(method):
        def objective(place, *arguments):
            info = objectives.within(place, *arguments)
            return info._replace(extra={"share": place.iteration / method.iterations})

        return method._replace(schemes=(method.schemes[0]._replace(objective=objective),))

    found = [info.match.extra for _, _, info in gm_jax.iterations(CONFIG, digits, variant)]
    assert [part["share"].tolist() for part in found] == [[[0.0]], [[0.5]]]


@pytest.mark.slow
def test_swept_values_reach_a_variant(digits):
    """A variant that halves the rate, swept over 0.2, is the plain method at 0.1."""
    halved = lambda method: method._replace(image_lr=method.image_lr / 2)
    swept = gm_jax.Config(**SMALL, image_lr=(0.2, 0.4))
    ours = gm_jax.condense(swept, digits, halved)
    plain = gm_jax.condense(gm_jax.Config(**SMALL, image_lr=(0.1, 0.2)), digits)
    np.testing.assert_allclose(ours.images, plain.images, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_swept_values_reach_the_start_and_the_end_of_a_variant(digits):
    """The optimiser's state and the last decode are made of each set's own numbers."""

    def change(method):
        optimiser = lambda rate: optax.inject_hyperparams(optax.sgd)(learning_rate=rate)
        brighter = lambda learned: learned * (1 + method.image_lr)
        parametrisation = method.parametrisation._replace(decode=brighter)
        return method._replace(image_optimiser=optimiser, parametrisation=parametrisation)

    rates = (0.1, 1.0)
    both = gm_jax.condense(gm_jax.Config(**SMALL, image_lr=rates), digits, change)
    for number, rate in enumerate(rates):
        alone = gm_jax.condense(gm_jax.Config(**SMALL, image_lr=(rate,)), digits, change)
        np.testing.assert_allclose(both.images[number], alone.images[0], rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_a_signal_that_is_no_mean_is_never_cut(digits):
    """The norm of the gradient of all 4 images: a platform's microbatches of 2 leave it alone.

    Were it cut, the mean of two norms would be more than the norm of the mean: one that says it is
    a mean is refused, as are microbatches that the user asks for.
    """

    def norm_of(mean_over_images, microbatch=2):
        def of(model, params, x, y):
            gradient = gm_jax.loss_gradient.of(model, params, x, y)
            return jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(gradient)) + 1e-12)[None]

        signal = gm_jax.Signal(of, mean_over_images)
        distance = lambda a, b: jnp.sum((a - b) ** 2)
        return lambda method: method._replace(
            signal=signal, distance=distance, microbatch=microbatch
        )

    losses = {}
    variants = {"all": norm_of(False, None), "cut": norm_of(False)}
    config = gm_jax.Config(**SMALL | {"iterations": 1})
    for name, variant in variants.items():
        ((_, _, info),) = gm_jax.iterations(config, digits, variant)
        losses[name] = float(info.match.loss[0, 0])
    assert losses["cut"] == pytest.approx(losses["all"], rel=1e-5)
    with pytest.raises(gm_jax.UserError, match="no mean over images"):
        gm_jax.iterations(config, digits, norm_of(True))
    asked = dataclasses.replace(config, microbatch=2)
    with pytest.raises(gm_jax.UserError, match="--microbatch 2"):
        gm_jax.iterations(asked, digits, variants["cut"])
    gm_jax.iterations(asked, digits, with_features)


def test_evaluate_trains_the_variants_network(digits, plain):
    """A network that always answers 0 is right on a tenth of the digits."""
    zero = gm_jax.from_functions(
        lambda key: {}, lambda params, x: jnp.eye(10)[jnp.zeros(len(x), int)]
    )
    settings = gm_jax.Evaluation(count=2, epochs=1)
    scores = gm_jax.evaluate(plain, digits, settings, lambda method: method._replace(network=zero))
    share = np.mean(np.asarray(digits.test_labels) == 0)
    assert [score.trained_on for score in scores] == ["condensed", "random real"]
    for score in scores:
        assert score.accuracies.shape == (1, 2, 1)
        np.testing.assert_allclose(score.accuracies, share, rtol=1e-6)


def test_wrong_settings_are_refused_before_anything_is_compiled(digits, plain):
    with pytest.raises(gm_jax.UserError, match=r"--ipc 0: must be 1 to"):
        gm_jax.iterations(gm_jax.Config(dataset="digits", ipc=0), digits)
    with pytest.raises(gm_jax.UserError, match="vgg11"):
        gm_jax.evaluate(plain, digits, gm_jax.Evaluation(networks=("vgg11",)))
    with pytest.raises(gm_jax.UserError, match=r"images of \(8, 8, 1\), mnist5k has \(28, 28, 1\)"):
        gm_jax.evaluate(plain, gm_jax.load("mnist5k"))
    with pytest.raises(gm_jax.UserError, match="--class-devices 0"):
        gm_jax.iterations(CONFIG, digits, devices=gm_jax.Devices(class_devices=0))
    with pytest.raises(gm_jax.UserError, match="at least one Scheme"):
        gm_jax.iterations(CONFIG, digits, lambda method: method._replace(schemes=()))
    with pytest.raises(gm_jax.UserError, match="--count 0"):
        gm_jax.evaluate(plain, digits, gm_jax.Evaluation(count=0))
    with pytest.raises(gm_jax.UserError, match=r"the variant cannot be used: AttributeError: .*py"):
        gm_jax.evaluate(plain, digits, variant=lambda method: method.nothing)


@pytest.mark.slow
def test_a_set_that_diverges_raises_and_is_explained(digits):
    config = gm_jax.Config(**SMALL, image_lr=(1e29,))
    with pytest.raises(gm_jax.DivergedError, match="set 0 at iteration") as caught:
        gm_jax.condense(config, digits)
    assert "--image-lr" in gm_jax.explain(caught.value, digits)


@pytest.mark.slow
def test_an_explanation_reads_no_more_of_a_set_on_disk_than_is_drawn(digits, monkeypatch):
    """Of images that stay with the host: those of the steps, and one more time of the last one."""
    config = gm_jax.Config(**SMALL, image_lr=(1e29,))
    with pytest.raises(gm_jax.DivergedError) as caught:
        gm_jax.condense(config, digits)
    reads, gather = [], HostImages._gather
    noted = lambda self, picks: (reads.append(picks.number.shape), gather(self, picks))[1]
    monkeypatch.setattr(HostImages, "_gather", noted)
    on_disk = digits._replace(train=digits.train._replace(images=np.asarray(digits.train.images)))
    said = gm_jax.explain(caught.value, on_disk)
    assert said == gm_jax.explain(caught.value, digits)
    assert reads
    assert set(reads) <= {(10, config.batch_real), (256,)}


HEAVY = ("matplotlib", "orbax", "tensorflow_datasets", "PIL", "sklearn", "pandas", "scipy.io")


def test_every_name_of_the_package_is_there():
    """They are imported when they are asked for, from where a stub says."""
    assert len(gm_jax.__all__) > 40
    for name in gm_jax.__all__:
        assert getattr(gm_jax, name) is not None
    with pytest.raises(AttributeError, match="condence"):
        gm_jax.condence  # noqa: B018


def test_importing_all_of_gm_jax_is_light():
    """Nothing heavy; at most 1.2 times the time of jax, flax and optax, of three tries the best."""
    program = (
        "import sys, time; start = time.perf_counter(); import jax, flax, optax; "
        "before = set(sys.modules); between = time.perf_counter(); from gm_jax import *; "
        "end = time.perf_counter(); "
        f"print([m for m in {HEAVY} if m in sys.modules and m not in before]); "
        "print((end - start) / (between - start))"
    )
    ratios = []
    for _ in range(3):
        ran = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        )
        heavy, ratio = ran.stdout.splitlines()
        assert heavy == "[]"
        ratios.append(float(ratio))
    assert min(ratios) < 1.2, statistics.median(ratios)
