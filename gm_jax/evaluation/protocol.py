"""Evaluation: how well fresh networks do that were trained on a small set alone."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, ArrayLike, Float, Int, Key

from gm_jax.core.augment import Augment, dsa, per_image
from gm_jax.core.batching import chunked, microbatched
from gm_jax.core.training import NetworkState, epoch, start
from gm_jax.data.images import Dataset, normalise
from gm_jax.evaluation.mnist_augment import crop_scale_rotate
from gm_jax.nn.networks import Network


class Protocol(NamedTuple):
    """How a network is trained on the set that is evaluated.

    Attributes:
        epochs: passes over the set; the learning rate falls to a tenth at `epochs // 2`.
        learning_rate: of SGD.
        momentum: of SGD.
        weight_decay: of SGD, added to the gradient.
        batch: images in a batch.
        augment: `(key, x) -> x`, applied in every epoch to every image, or `None`.
        microbatch: images at a time in sums over images; `None` takes all at once.
    """

    epochs: int = 300
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch: int = 256
    augment: Augment | None = None
    microbatch: int | None = None


def paper_protocol(dataset: Dataset, microbatch: int | None = None) -> Protocol:
    """The published protocol: 300 epochs as they are; MNIST 1000 with augmentation."""
    if dataset.handwritten_digits:
        return Protocol(epochs=1000, augment=crop_scale_rotate, microbatch=microbatch)
    return Protocol(microbatch=microbatch)


def dsa_protocol(strategy: str, microbatch: int | None = None) -> Protocol:
    """DSA's: 1000 epochs, each image changed by one operation of the strategy (arXiv 2102.08259).

    The published program also clears the momentum where the learning rate falls; this one does not.
    """
    return Protocol(epochs=1000, augment=per_image(dsa(strategy)), microbatch=microbatch)


def train(
    key: Key[Array, ""],
    network: Network,
    protocol: Protocol,
    x: Float[Array, "n h w c"],
    y: Int[Array, " n"],
) -> tuple[NetworkState, Float[Array, " epochs"]]:
    """A fresh network trained on `x, y`: its final state, and each epoch's mean loss."""
    network_key, epochs_key = jax.random.split(key)
    optimiser = _optimiser(protocol, len(y))
    run_epoch = epoch(network, optimiser, protocol.batch, protocol.microbatch)

    def one(state, number):
        augment_key, order_key = jax.random.split(jax.random.fold_in(epochs_key, number))
        images = x if protocol.augment is None else protocol.augment(augment_key, x)
        return run_epoch(order_key, state, images, y)

    return jax.lax.scan(one, start(network_key, network, optimiser), jnp.arange(protocol.epochs))


def _optimiser(protocol: Protocol, images: int) -> optax.GradientTransformation:
    steps_per_epoch = -(-images // protocol.batch)
    halfway = protocol.epochs // 2 * steps_per_epoch
    rate = optax.piecewise_constant_schedule(protocol.learning_rate, {halfway: 0.1})
    return optax.chain(
        optax.add_decayed_weights(protocol.weight_decay), optax.sgd(rate, protocol.momentum)
    )


def accuracy(
    network: Network,
    state: NetworkState,
    x: Float[Array, "n h w c"],
    y: Int[Array, " n"],
    microbatch: int | None = None,
) -> Float[Array, ""]:
    """The share of images whose largest logit is their label's."""

    def share(params, x, y):
        right = jnp.argmax(network.apply(params, state.stats, x), -1) == y
        return jnp.sum(right) / jnp.maximum(jnp.sum(y >= 0), 1)

    return microbatched(share, microbatch)(state.params, x, y)


def train_and_test(
    key: Key[Array, ""],
    network: Network,
    protocol: Protocol,
    x: Float[Array, "n h w c"],
    y: Int[Array, " n"],
    test_x: Float[Array, "m h w c"],
    test_y: Int[Array, " m"],
) -> Float[Array, ""]:
    """Test accuracy, 0..1, of a fresh network trained on `x, y`."""
    state, _ = train(key, network, protocol, x, y)
    return accuracy(network, state, test_x, test_y, protocol.microbatch)


def test_set(dataset: Dataset) -> tuple[Float[Array, "m h w c"], Int[Array, " m"]]:
    """The test split, normalised as the training split."""
    images = jnp.asarray(dataset.test_images)
    return normalise(images, dataset.train.mean, dataset.train.std), jnp.asarray(
        dataset.test_labels
    )


class LabelledSets(NamedTuple):
    """Sets of one size to train networks on.

    Attributes:
        images: normalised, float `[sets, n, height, width, channel]`.
        labels: int32 `[sets, n]`, or `[n]` for all sets; -1 marks padding.
    """

    images: Float[ArrayLike, "sets n h w c"]
    labels: Int[ArrayLike, "..."]


def evaluate_sets(
    key: Key[Array, ""],
    network: Network,
    protocol: Protocol,
    sets: LabelledSets,
    test: tuple[Float[Array, "m h w c"], Int[Array, " m"]],
    count: int,
    chunk: int | None = 1,
    log: Callable[[], None] = lambda: None,
    first: int = 0,
) -> Float[np.ndarray, "sets count"]:
    """Test accuracies, 0..1, of `count` fresh networks trained on each of several sets.

    One compiled program, called once: training, augmentation and test of all networks.

    Args:
        key: of the networks.
        network, protocol: what is trained, and how.
        sets: what networks are trained on.
        test: images and labels to test on.
        count: networks for each set.
        chunk: networks at a time; see `batching.chunked`.
        log: called as each network is done.
        first: number of the first set, which is folded into the key.
    """
    images = jnp.asarray(sets.images)
    labels = jnp.broadcast_to(jnp.asarray(sets.labels), images.shape[:2])
    number = jnp.repeat(jnp.arange(len(images)), count)
    keys = jax.vmap(lambda n: jax.random.split(jax.random.fold_in(key, n), count))(
        first + jnp.arange(len(images))
    )

    @jax.jit
    def program(keys, number, images, labels, test):
        def one(key, number):
            x, y = images[number], labels[number]
            found = train_and_test(key, network, protocol, x, y, *test)
            jax.debug.callback(lambda _: log(), found)
            return found

        return chunked(one, chunk)(keys, number)

    accuracies = program(keys.reshape(-1), number, images, labels, test)
    jax.effects_barrier()  # every call of `log` has returned
    return np.asarray(accuracies, np.float64).reshape(len(images), count)


class Summary(NamedTuple):
    """Accuracies of `networks` fresh networks on each of `sets` sets, in percent.

    Attributes:
        mean: over all.
        std: over all, population form (divided by their number).
        std_sets: of the sets' means: the spread from one condensed set to another.
    """

    mean: float
    std: float
    std_sets: float


def summarise(accuracies: Float[np.ndarray, "sets networks"]) -> Summary:
    """Mean and spread, in percent, of accuracies in 0..1.

    >>> summarise(np.array([[0.75, 0.25], [0.75, 0.25]]))
    Summary(mean=50.0, std=25.0, std_sets=0.0)
    """
    percent = 100 * np.asarray(accuracies, np.float64)
    return Summary(float(percent.mean()), float(percent.std()), float(percent.mean(1).std()))
