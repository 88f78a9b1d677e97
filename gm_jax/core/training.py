"""Training a network on a set by SGD: the inner loop of condensation, and evaluation."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key

from gm_jax.core.augment import TrainingAugment
from gm_jax.core.batching import microbatched
from gm_jax.core.signals import cross_entropy
from gm_jax.data.images import Batch
from gm_jax.nn.networks import Network, Params, Stats


class NetworkState(NamedTuple):
    """A network in training.

    Attributes:
        params: its trainable tensors.
        stats: its running statistics; empty but for BatchNorm networks.
        optimiser: the optimiser's state.
    """

    params: Params
    stats: Stats
    optimiser: Any


class EpochKeys(NamedTuple):
    """The keys of one epoch.

    Attributes:
        order: of the images.
        augment: of their random change; of several batches, each folds its number in.
    """

    order: Key[Array, ""]
    augment: Key[Array, ""]


Trainer = Callable[[EpochKeys, NetworkState, Batch], tuple[NetworkState, Float[Array, ""]]]
"""`(keys, state, images) -> (state, loss)`: one epoch."""


def start(
    key: Key[Array, ""], network: Network, optimiser: optax.GradientTransformation
) -> NetworkState:
    """A fresh network and its optimiser's state."""
    params, stats = network.init(key)
    return NetworkState(params, stats, optimiser.init(params))


def sgd_step(
    network: Network, optimiser: optax.GradientTransformation, microbatch: int | None
) -> Callable:
    """`(state, x, y) -> (state, loss)`: one optimiser step on the mean cross-entropy.

    The loss is the one before the step.  A network with batch statistics takes its batch whole.
    """

    def step(state, x, y):
        def loss_and_stats(params, x, y):
            logits, stats = network.train(params, state.stats, x)
            return cross_entropy(logits, y), stats

        size = None if jax.tree.leaves(state.stats) else microbatch
        gradient = microbatched(jax.value_and_grad(loss_and_stats, has_aux=True), size)
        (loss, stats), grads = gradient(state.params, x, y)
        updates, opt_state = optimiser.update(grads, state.optimiser, state.params)
        return NetworkState(optax.apply_updates(state.params, updates), stats, opt_state), loss

    return step


def mean_loss(
    network: Network, state: NetworkState, images: Batch, microbatch: int | None
) -> Float[Array, ""]:
    """The mean cross-entropy of images, by the network as it is."""
    loss = lambda params, x, y: cross_entropy(network.apply(params, state.stats, x), y)
    return microbatched(loss, microbatch)(state.params, *images)


def epoch(
    network: Network,
    optimiser: optax.GradientTransformation,
    batch: int,
    microbatch: int | None,
    augment: TrainingAugment | None = None,
) -> Trainer:
    """One pass over a set in shuffled batches, the last one smaller if it must be.

    Args:
        network: what is trained.
        optimiser: its optimiser.
        batch: images in a batch.
        microbatch: images at a time in means over images; `None` takes all at once.
        augment: the random change of every batch, or `None`.

    Returns:
        `(keys, state, images [n]) -> (state, mean loss over the images)`.
    """
    sgd = sgd_step(network, optimiser, microbatch)

    def step(key, state, images):
        images = images if augment is None else augment(key, images)
        return sgd(state, images.x, images.y)

    def run(keys, state, images):
        n = len(images.y)
        if n <= batch:
            return step(keys.augment, state, images)
        order = jax.random.permutation(keys.order, n)
        full = n // batch
        augment_keys = jax.vmap(jax.random.fold_in, (None, 0))(keys.augment, jnp.arange(full + 1))
        take = lambda places: jax.tree.map(lambda part: part[places], images)

        def one(state, of_batch):
            key, places = of_batch
            return step(key, state, take(places))

        batches = augment_keys[:full], order[: full * batch].reshape(full, batch)
        state, losses = jax.lax.scan(one, state, batches)
        total = jnp.sum(losses) * batch
        if n % batch:
            state, loss = step(augment_keys[full], state, take(order[full * batch :]))
            total = total + loss * (n % batch)
        return state, total / n

    return run
