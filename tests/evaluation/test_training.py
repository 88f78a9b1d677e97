"""Training, evaluation and augmentation on problems whose answer is known."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gm_jax.build import build_protocol
from gm_jax.config import Config
from gm_jax.core.cutmix import then_cutmix
from gm_jax.core.training import EpochKeys, epoch, sgd_step, start
from gm_jax.data.images import Batch
from gm_jax.data.loading import load
from gm_jax.evaluation.mnist_augment import _resample, crop_scale_rotate
from gm_jax.evaluation.protocol import (
    LabelledSets,
    Protocol,
    Trial,
    accuracy,
    evaluate_sets,
    summarise,
    train,
    train_and_test,
)
from gm_jax.nn.networks import ConvNet, batch_norm, from_flax, from_functions
from gm_jax.scoring import evaluation_key

KEY = jax.random.key(0)


def linear(classes=2):
    return from_functions(
        init=lambda key: {"w": jnp.zeros((4, classes))},
        apply=lambda params, x: x.reshape(len(x), -1) @ params["w"],
    )


def gaussians(key, n):
    """Two unit Gaussians in 4 dimensions, means (1, 1, 1, 1) and its negative: 4 apart."""
    y = jnp.arange(n) % 2
    x = jax.random.normal(key, (n, 2, 2, 1)) + (2.0 * y - 1)[:, None, None, None]
    return x, y


def test_sgd_with_momentum_by_hand():
    """One image x = e1, label 0, w = 0: softmax is (1/2, 1/2), so the gradient by w[0] is
    (-1/2, 1/2).  Step 1: v = g, w -= 0.1 v.  Step 2: v = 0.5 v + g', w -= 0.1 v."""
    optimiser = optax.sgd(0.1, 0.5)
    x = jnp.zeros((1, 2, 2, 1)).at[0, 0, 0, 0].set(1)
    y = jnp.zeros(1, jnp.int32)
    step = sgd_step(linear(), optimiser, None)
    state, loss = step(start(KEY, linear(), optimiser), x, y)
    assert jnp.allclose(loss, jnp.log(2.0))
    assert jnp.allclose(state.params["w"][0], jnp.array([0.05, -0.05]))
    g = 1 / (1 + jnp.exp(jnp.array(0.1)))  # the probability of class 1 at logits (0.05, -0.05)
    state, _ = step(state, x, y)
    expected = 0.05 + 0.1 * (0.5 * 0.5 + g)
    assert jnp.allclose(state.params["w"][0], jnp.array([expected, -expected]))


def test_an_epoch_sees_every_image_once_with_a_smaller_last_batch():
    """At learning rate 0 the mean of the batches' losses, weighted, is the loss of the set."""
    x, y = gaussians(KEY, 11)
    optimiser = optax.sgd(0.0)
    network = linear()._replace(init=lambda key: ({"w": jax.random.normal(key, (4, 2))}, {}))
    state = start(KEY, network, optimiser)
    whole = sgd_step(network, optimiser, None)(state, x, y)[1]
    for microbatch in (None, 2):
        _, loss = epoch(network, optimiser, 4, microbatch)(EpochKeys(KEY, KEY), state, Batch(x, y))
        assert jnp.allclose(loss, whole, rtol=1e-6)


def test_two_gaussians_reach_the_bayes_rate():
    """The best possible accuracy is Phi(2) = 97.72 %; 4000 test images: 5 deviations are 1.2 %."""
    x, y = gaussians(jax.random.key(1), 512)
    test_x, test_y = gaussians(jax.random.key(2), 4000)
    protocol = Protocol(epochs=30)
    state, (losses, _) = train(KEY, linear(), protocol, x, y)
    assert losses.shape == (30,)
    assert losses[-1] < losses[0]
    assert abs(accuracy(linear(), state, test_x, test_y, 64) - 0.9772) < 0.012


@pytest.mark.parametrize("images", [63, 397, 1000])
def test_an_accuracy_is_a_fraction_of_whole_images(images):
    """Shares of microbatches add up to a little more than 1 or less, but for this count."""
    x, _ = gaussians(KEY, images)
    state = start(KEY, linear(), optax.sgd(0.1))
    guessed = jnp.argmax(linear().apply(state.params, state.stats, x), -1)
    for right in (images, images - 1, 7):
        labels = jnp.where(jnp.arange(images) < right, guessed, 1 - guessed)
        found = accuracy(linear(), state, x, labels, 16)
        assert float(found) == float(jnp.float32(right) / images)


@pytest.mark.slow
def test_batch_norm_in_microbatches_sees_the_whole_batch():
    """Statistics of part of a batch are not those of the batch: such networks take it whole."""
    network = from_flax(ConvNet(3, width=4, depth=1, norm=batch_norm), (8, 8, 1))
    optimiser = optax.sgd(0.1)
    x = jax.random.normal(KEY, (6, 8, 8, 1))
    y = jnp.arange(6) % 3
    state = start(KEY, network, optimiser)
    whole, _ = sgd_step(network, optimiser, None)(state, x, y)
    parts, _ = sgd_step(network, optimiser, 2)(state, x, y)
    jax.tree.map(np.testing.assert_array_equal, whole, parts)
    # momentum 0.1 and the variance divided by n - 1, as PyTorch has it
    kernel = state.params["Conv_0"]
    images = jax.lax.conv_general_dilated(
        x, kernel["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    features = np.asarray(images + kernel["bias"][None, None, None]).reshape(-1, 4)
    stats = whole.stats["BatchNorm_0"]
    np.testing.assert_allclose(stats["mean"], 0.1 * features.mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(stats["var"], 0.9 + 0.1 * features.var(0, ddof=1), rtol=1e-5)


def test_initial_weights_and_biases_are_uniform_by_fan_in():
    """3x3x4 inputs: |w|, |b| <= 1/6, and the variance of U(-a, a) is a^2 / 3."""
    network = from_flax(ConvNet(10, width=64, depth=1), (8, 8, 4))
    conv = network.init(KEY)[0]["Conv_0"]
    assert jnp.max(jnp.abs(conv["kernel"])) <= 1 / 6
    assert jnp.max(jnp.abs(conv["bias"])) <= 1 / 6
    assert abs(float(jnp.var(conv["kernel"])) / (1 / 108) - 1) < 0.1


# --- augmentation ---------------------------------------------------------------------------------

IMAGE = jnp.arange(25.0).reshape(5, 5, 1)


def test_identity_shift_and_quarter_turn():
    same = jnp.eye(2), jnp.zeros(2)
    assert jnp.allclose(_resample(IMAGE, *same), IMAGE, atol=1e-5)
    shifted = _resample(IMAGE, jnp.eye(2), jnp.array([1.0, 0.0]))  # row i shows row i + 1
    assert jnp.allclose(shifted[:-1], IMAGE[1:], atol=1e-5)
    assert jnp.all(shifted[-1] == 0)  # zero outside
    turn = jnp.array([[0.0, 1.0], [-1.0, 0.0]])
    turned = _resample(IMAGE, turn, jnp.zeros(2))
    assert jnp.allclose(turned, jnp.rot90(IMAGE), atol=1e-4)


@pytest.mark.slow
def test_augmentation_keeps_constant_images_and_depends_on_the_key():
    flat = jnp.full((6, 9, 9, 2), 0.7)  # what comes in from outside is the mean: 0.7
    assert jnp.allclose(crop_scale_rotate(KEY, flat), flat, atol=1e-6)
    x = jax.random.normal(KEY, (30, 9, 9, 1))
    one, again = crop_scale_rotate(KEY, x), crop_scale_rotate(KEY, x)
    assert jnp.all(one == again)
    other = crop_scale_rotate(jax.random.key(9), x)
    assert jnp.sum(jnp.any(one != other, (1, 2, 3))) >= 28


def test_a_third_of_the_images_is_cropped_by_whole_pixels():
    """Impulses tell: only a crop keeps a single pixel whole.  1/3 of 600 is 200, +- 5 * 11.5."""
    x = jnp.zeros((600, 15, 15, 1)).at[:, 7, 5].set(1)
    moved = crop_scale_rotate(KEY, x)  # what comes in from outside is the mean, 1 / 225
    whole = jnp.sum(moved > 0.01, (1, 2, 3)) == 1
    cropped = int(jnp.sum(whole & (jnp.max(moved, (1, 2, 3)) > 0.999)))
    assert abs(cropped - 200) < 58


def test_the_learning_rate_falls_after_an_epoch_at_the_earliest():
    """Half of 3 epochs is 1; of a single epoch the rate stays what it is."""
    assert Protocol(epochs=3).drops_after() == {1: 0.1}
    assert Protocol(epochs=1).drops_after() == {1: 0.1}


@pytest.mark.parametrize(
    ("name", "dataset", "epochs", "batch", "factors"),
    [
        ("paper", "digits", 1000, 256, {500: 0.1}),
        ("paper", "fashion_mnist", 300, 256, {150: 0.1}),
        ("dsa", "fashion_mnist", 1000, 256, {500: 0.1}),
        ("ddranking", "digits", 1000, 256, {500: 0.1}),
        ("idc", "fashion_mnist", 1000, 64, {666: 0.2, 833: 0.2}),
    ],
)
def test_protocols_are_as_published(name, dataset, epochs, batch, factors):
    """SGD, learning rate 0.01, momentum 0.9, weight decay 5e-4; as images are in one alone."""
    digits = load("digits")
    data = digits._replace(name=dataset, handwritten_digits=dataset == "digits")
    found = build_protocol(name, Config(dataset=dataset), data)
    assert (found.epochs, found.batch) == (epochs, batch)
    assert (found.learning_rate, found.momentum, found.weight_decay) == (0.01, 0.9, 5e-4)
    assert found.drops_after() == pytest.approx(factors)
    assert (found.augment is None) == (name == "paper" and dataset == "fashion_mnist")


def test_ddranking_flips_what_dsa_does_not():
    """One of six operations, of digits too, where DSA's strategy has no flip: one image in twelve.

    Of 400 draws 33 show exactly the mirror image; none by `dsa`.
    """
    digits = load("digits")
    x = jax.random.normal(jax.random.key(0), (1, 8, 8, 1))

    def mirrored(name):
        augment = build_protocol(name, Config(dataset="digits"), digits).augment
        keys = jax.random.split(jax.random.key(1), 400)
        found = jax.lax.map(lambda key: augment(key, Batch(x, jnp.zeros(1, int))).x, keys)
        return int((found == x[None, :, :, ::-1]).all((1, 2, 3, 4)).sum())

    assert mirrored("dsa") == 0
    assert 10 < mirrored("ddranking") < 60


def test_an_evaluation_draws_with_other_keys_than_condensing():
    """Of equal seeds."""
    condensing = jax.random.key_data(jax.random.split(jax.random.key(7)))
    assert not (condensing == jax.random.key_data(evaluation_key(7))[None]).all(1).any()


def test_turning_asks_for_full_precision():
    """Else an accelerator displaces pixels."""
    program = str(jax.make_jaxpr(crop_scale_rotate)(KEY, jnp.zeros((1, 4, 4, 1))))
    assert program.count("dot_general") == program.count("precision=(Precision.HIGHEST") > 0


def test_summary_by_hand():
    """Sets of (80, 90) and (70, 100) percent: mean 85, deviations 5, 5, 15, 15; set means equal."""
    summary = summarise(np.array([[0.8, 0.9], [0.7, 1.0]]))
    assert summary.mean == pytest.approx(85)
    assert summary.std == pytest.approx(((25 + 25 + 225 + 225) / 4) ** 0.5)
    assert summary.std_sets == pytest.approx(0)


@pytest.mark.parametrize("chunk", [1, 2, None])
def test_networks_in_any_chunks_are_each_trained_alone(chunk):
    """2 sets x 3 networks in one program: every accuracy is that of its own key, set and labels."""
    network = from_functions(
        lambda key: {"w": jax.random.normal(key, (4, 3))},
        lambda params, x: x.reshape(len(x), -1) @ params["w"],
    )
    protocol = Protocol(epochs=5, learning_rate=0.1)
    images = jax.random.normal(jax.random.key(0), (2, 6, 2, 2, 1))
    labels = jnp.arange(12).reshape(2, 6) % 3
    test = jax.random.normal(jax.random.key(1), (200, 2, 2, 1)), jnp.arange(200) % 3
    key, done = jax.random.key(2), []
    trial = Trial(network, protocol, *test)
    sets = LabelledSets(images, labels)
    found = evaluate_sets(key, trial, sets, 3, chunk, lambda: done.append(1))[..., 0]
    assert len(done) == 6
    for at in range(2):
        keys = jax.random.split(jax.random.fold_in(key, at), 3)
        for number in range(3):
            alone = train_and_test(keys[number], trial, images[at], labels[at])[0]
            assert abs(found[at, number] - alone) < 0.011  # 2 of 200 images on the border
    assert np.ptp(found) > 0.02  # else the comparison above would say nothing


# --- random changes while training ----------------------------------------------------------------


def test_every_batch_of_an_epoch_is_changed_with_a_key_of_its_own():
    """Weights follow the images' mean: learning rate 1, loss = <w, x>, 3 batches of 2, one of 1."""
    network = from_functions(
        lambda key: {"w": jnp.zeros((4, 2))}, lambda params, x: x.reshape(len(x), -1) @ params["w"]
    )
    optimiser, seen = optax.sgd(1.0), []

    def augment(key, batch):
        seen.append(batch.x.shape)  # at tracing
        return batch._replace(x=batch.x * 0 + jax.random.uniform(key))

    x, y = gaussians(KEY, 7)
    train_epoch = epoch(network, optimiser, 2, None, augment)
    state = start(KEY, network, optimiser)
    one = train_epoch(EpochKeys(KEY, jax.random.key(1)), state, Batch(x, y))[0].params["w"]
    assert {shape[0] for shape in seen} == {1, 2}
    again = train_epoch(EpochKeys(KEY, jax.random.key(1)), state, Batch(x, y))[0].params["w"]
    assert jnp.all(one == again)
    other = train_epoch(EpochKeys(KEY, jax.random.key(2)), state, Batch(x, y))[0].params["w"]
    assert not jnp.allclose(one, other)


def test_training_on_cutmix_is_training_on_both_labels():
    """Half an image of each class, half the loss of each label: the weights stay as they are.

    Two images, 1 and -1 everywhere.  With the box of half of the pixels replaced, both are x and
    their partners' pixels, and both labels count half.
    """
    mixed = then_cutmix(lambda key, batch: batch, 2, 1.0)
    x = jnp.stack([jnp.ones((8, 8, 1)), -jnp.ones((8, 8, 1))])
    for seed in range(20):
        found = mixed(jax.random.key(seed), Batch(x, jnp.array([0, 1])))
        assert jnp.allclose(found.y.sum(-1), 1)
        # the label's share is the share of the image's own pixels: (mean + 1) / 2 of the first one
        assert jnp.allclose(found.y[0, 0], (found.x[0].mean() + 1) / 2, atol=1e-6)
        assert jnp.allclose(found.y[1, 1], (1 - found.x[1].mean()) / 2, atol=1e-6)
    padded = mixed(jax.random.key(0), Batch(x, jnp.array([0, -1])))
    assert padded.y.tolist() == [[1, 0], [0, 0]]  # a padding's pixels count as the image's own


def test_tests_during_training_are_those_of_networks_that_stop_there():
    """At the 4th, 8th and 12th of 12 epochs; the drop of the learning rate comes after all."""
    network = from_functions(
        lambda key: {"w": jax.random.normal(key, (4, 2))},
        lambda params, x: x.reshape(len(x), -1) @ params["w"],
    )
    x, y = gaussians(KEY, 64)
    test = gaussians(jax.random.key(2), 400)
    protocol = Protocol(epochs=12, drops=(), learning_rate=0.03)
    found = train_and_test(KEY, Trial(network, protocol, *test, 3), x, y)
    for accuracy_then, epochs in zip(found, (4, 8, 12)):
        alone = Trial(network, protocol._replace(epochs=epochs), *test)
        assert accuracy_then == train_and_test(KEY, alone, x, y)[-1]
    assert len(set(found.tolist())) == 3  # else the comparison would say nothing
