"""Evaluation: how well fresh networks do that were trained on a small set alone."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, ArrayLike, Float, Int, Key

from gm_jax.core.augment import TrainingAugment, dsa, for_training, idc, per_image
from gm_jax.core.batching import chunked, microbatched
from gm_jax.core.cutmix import then_cutmix
from gm_jax.core.training import EpochKeys, NetworkState, epoch, start
from gm_jax.data.images import Batch, Dataset, normalise
from gm_jax.evaluation.mnist_augment import crop_scale_rotate
from gm_jax.nn import platforms
from gm_jax.nn.networks import Network
from gm_jax.parallel.meshes import SETS, over_sets, spread_sets
from gm_jax.published_settings import DSA_STRATEGIES


class Protocol(NamedTuple):
    """How a network is trained on the set that is evaluated.

    Attributes:
        epochs: passes over the set.
        learning_rate: of SGD.
        drops: pairs of a share of the epochs and a factor, by which the learning rate is multiplied
            when that share is done.
        momentum: of SGD.
        weight_decay: of SGD, added to the gradient.
        batch: images in a batch.
        augment: `(key, batch) -> batch`, the random change of every batch, or `None`.
        microbatch: images at a time in means over images; `None` takes all at once.
    """

    epochs: int = 300
    learning_rate: float = 0.01
    drops: tuple[tuple[Fraction, float], ...] = ((Fraction(1, 2), 0.1),)
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch: int = 256
    augment: TrainingAugment | None = None
    microbatch: int | None = None

    def drops_after(self) -> dict[int, float]:
        """By what the learning rate is multiplied, by the epochs that are done then, from 1."""
        factors: dict[int, float] = {}
        for share, by in self.drops:
            done = max(1, int(share * self.epochs))
            factors[done] = factors.get(done, 1.0) * by
        return factors


def paper_protocol(dataset: Dataset) -> Protocol:
    """The paper's: 300 epochs as the images are; MNIST 1000 with augmentation."""
    if dataset.handwritten_digits:
        return Protocol(epochs=1000, augment=for_training(crop_scale_rotate))
    return Protocol()


def dsa_protocol(strategy: str) -> Protocol:
    """DSA's: 1000 epochs, each batch changed by one operation of the strategy (arXiv 2102.08259).

    The published program also clears the momentum where the learning rate falls; this one does not.
    """
    return Protocol(epochs=1000, augment=for_training(per_image(dsa(strategy))))


def idc_protocol(strategy: str, classes: int, cutmix: float) -> Protocol:
    """IDC's: 1000 epochs in batches of 64, several operations of the strategy, then cutmix.

    The learning rate falls to a fifth after two thirds of the epochs, and again after five sixths
    (arXiv 2205.14959).

    Args:
        strategy: operations; see `core.augment.idc`.
        classes: how many there are.
        cutmix: its probability for a batch.
    """
    augment = for_training(per_image(idc(strategy)))
    if cutmix:
        augment = then_cutmix(augment, classes, cutmix)
    drops = ((Fraction(2, 3), 0.2), (Fraction(5, 6), 0.2))
    return Protocol(epochs=1000, drops=drops, batch=64, augment=augment)


def ddranking_protocol() -> Protocol:
    """DD-Ranking's for sets with hard labels: DSA's, with all six operations on every data set.

    As its configuration files have it (NUS-HPC-AI-Lab/DD-Ranking, DSA/CIFAR10).  Its program tunes
    the learning rate and reports the best epoch, both on the test images; this one does neither.
    """
    return dsa_protocol(DSA_STRATEGIES["cifar10"])


def train(
    key: Key[Array, ""],
    network: Network,
    protocol: Protocol,
    x: Float[Array, "n h w c"],
    y: Int[Array, " n"],
    observe: Callable[[NetworkState, Int[Array, ""]], Any] = lambda state, number: (),
) -> tuple[NetworkState, tuple[Float[Array, " epochs"], Any]]:
    """A fresh network trained on `x, y`.

    Args:
        key: of all its draws.
        network, protocol: what is trained, and how.
        x, y: images and labels.
        observe: what else to note after each epoch, from 1: `(state, number) -> pytree`.

    Returns:
        its final state; each epoch's mean loss, and what was observed, `[epochs, ...]`.
    """
    network_key, epochs_key = jax.random.split(key)
    optimiser = _optimiser(protocol, len(y))
    run_epoch = epoch(network, optimiser, protocol.batch, protocol.microbatch, protocol.augment)

    def one(state, number):
        augment_key, order_key = jax.random.split(jax.random.fold_in(epochs_key, number))
        state, loss = run_epoch(EpochKeys(order_key, augment_key), state, Batch(x, y))
        return state, (loss, observe(state, number + 1))

    return jax.lax.scan(one, start(network_key, network, optimiser), jnp.arange(protocol.epochs))


def _optimiser(protocol: Protocol, images: int) -> optax.GradientTransformation:
    steps_per_epoch = -(-images // protocol.batch)
    drops = {epoch * steps_per_epoch: by for epoch, by in protocol.drops_after().items()}
    rate = optax.piecewise_constant_schedule(protocol.learning_rate, drops)
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
    count = lambda y: jnp.maximum(jnp.sum(y >= 0), 1)

    def share(params, x, y):
        right = jnp.argmax(network.apply(params, state.stats, x), -1) == y
        return jnp.sum(right) / count(y)

    rounded = microbatched(share, microbatch)(state.params, x, y)  # shares of microbatches, summed
    return jnp.round(rounded * count(y)) / count(y)


class Trial(NamedTuple):
    """What is done with each set that is evaluated.

    Attributes:
        network: what is trained.
        protocol: how.
        test_x: normalised images to test on, float `[m, height, width, channel]`.
        test_y: their labels, int32 `[m]`.
        tests: how often it is tested, at equal numbers of epochs; the last time is the end.
    """

    network: Network
    protocol: Protocol
    test_x: Float[Array, "m h w c"]
    test_y: Int[Array, " m"]
    tests: int = 1


def train_and_test(
    key: Key[Array, ""], trial: Trial, x: Float[Array, "n h w c"], y: Int[Array, " n"]
) -> Float[Array, " tests"]:
    """Test accuracies, 0..1, of a fresh network trained on `x, y`: the last one is the final."""
    network, protocol, epochs = trial.network, trial.protocol, trial.protocol.epochs
    test = lambda state: accuracy(network, state, trial.test_x, trial.test_y, protocol.microbatch)
    early = np.array([epochs * i // trial.tests for i in range(1, trial.tests)], int)

    def observe(state, number):
        if not early.size:
            return ()
        due = jnp.any(number == jnp.asarray(early))
        return jax.lax.cond(due, test, lambda state: jnp.zeros(()), state)

    state, (_, found) = train(key, network, protocol, x, y, observe)
    before = found[early - 1] if early.size else jnp.zeros(0)
    return jnp.append(before, test(state))


def test_set(dataset: Dataset) -> tuple[Float[Array, "m h w c"], Int[Array, " m"]]:
    """The test split, normalised as the training split."""
    images, labels = jnp.asarray(dataset.test_images), jnp.asarray(dataset.test_labels)
    return normalise(images, dataset.train.mean, dataset.train.std), labels


class LabelledSets(NamedTuple):
    """Sets of one size to train networks on.

    Attributes:
        images: normalised, float `[sets, n, height, width, channel]`.
        labels: int32 `[sets, n]`, or `[n]` for all sets; -1 marks padding.
        first: number of the first set, which is folded into the key of its networks.
    """

    images: Float[ArrayLike, "sets n h w c"]
    labels: Int[ArrayLike, "..."]
    first: int = 0


def evaluate_sets(
    key: Key[Array, ""],
    trial: Trial,
    sets: LabelledSets,
    count: int,
    chunk: int | None = 1,
    progress: Callable[[], None] = lambda: None,
    mesh: Mesh | None = None,
) -> Float[np.ndarray, "sets count tests"]:
    """Test accuracies, 0..1, of `count` fresh networks trained on each of several sets.

    One compiled program, called once: training, augmentation and test of all networks.

    Args:
        key: of the networks.
        trial: what is trained, how, and what it is tested on.
        sets: what networks are trained on.
        count: networks for each set.
        chunk: networks at a time; see `batching.chunked`.
        progress: called as each network is done.
        mesh: of one axis that counts, `SETS`: the devices that networks are spread over.
    """
    images = jnp.asarray(sets.images)
    labels = jnp.broadcast_to(jnp.asarray(sets.labels), images.shape[:2])
    number = jnp.repeat(jnp.arange(len(images)), count)
    keys = jax.vmap(lambda n: jax.random.split(jax.random.fold_in(key, n), count))(
        sets.first + jnp.arange(len(images))
    )

    def program(keys, number, place, everywhere):
        images, labels, test_x, test_y = everywhere
        of_set = trial._replace(test_x=test_x, test_y=test_y)

        def one(key, number, place):
            found = train_and_test(key, of_set, images[number], labels[number])
            jax.debug.callback(lambda place, _: progress() if place < total else None, place, found)
            return found

        return chunked(one, chunk)(keys, number, place)

    total = len(number)  # what `spread_sets` adds is not counted
    place = jnp.arange(total + (0 if mesh is None else -total % mesh.shape[SETS]))
    networks = (*spread_sets(mesh, (keys.reshape(-1), number)), spread_sets(mesh, place))
    arguments = (*networks, (images, labels, trial.test_x, trial.test_y))
    spread = jax.jit(over_sets(mesh, program, PartitionSpec()))
    compiled = platforms.compile_program(spread.lower(*arguments), mesh)
    accuracies = compiled(*arguments)
    jax.effects_barrier()  # every call of `progress` has returned
    return np.asarray(accuracies, np.float64)[:total].reshape(len(images), count, trial.tests)


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

    Examples:
        >>> summarise(np.array([[0.75, 0.25], [0.75, 0.25]]))
        Summary(mean=50.0, std=25.0, std_sets=0.0)
    """
    percent = 100 * np.asarray(accuracies, np.float64)
    return Summary(float(percent.mean()), float(percent.std()), float(percent.mean(1).std()))
