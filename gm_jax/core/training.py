"""Training a network on a set by SGD: the inner loop of condensation, and evaluation."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key

from gm_jax.core.batching import microbatched
from gm_jax.core.signals import cross_entropy
from gm_jax.data.images import Labels
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


Trainer = Callable[
    [Key[Array, ""], NetworkState, Float[Array, "n h w c"], Labels],
    tuple[NetworkState, Float[Array, ""]],
]
"""`(key, state, x, y) -> (state, loss)`: one epoch."""


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

    def loss_fn(params_and_stats, x, y):
        params, stats = params_and_stats
        logits, stats = network.train(params, stats, x)
        return cross_entropy(logits, y), stats

    def step(state, x, y):
        def value_and_grad(params, x, y):
            return jax.value_and_grad(lambda p: loss_fn((p, state.stats), x, y), has_aux=True)(
                params
            )

        size = None if jax.tree.leaves(state.stats) else microbatch
        (loss, stats), grads = microbatched(value_and_grad, size)(state.params, x, y)
        updates, opt_state = optimiser.update(grads, state.optimiser, state.params)
        return NetworkState(optax.apply_updates(state.params, updates), stats, opt_state), loss

    return step


def epoch(
    network: Network,
    optimiser: optax.GradientTransformation,
    batch: int,
    microbatch: int | None,
) -> Trainer:
    """One pass over a set in shuffled batches, the last one smaller if it must be.

    Returns:
        `(key, state, x [n, ...], y [n]) -> (state, mean loss over the images)`.
    """
    step = sgd_step(network, optimiser, microbatch)

    def run(key, state, x, y):
        if len(y) <= batch:
            return step(state, x, y)
        order = jax.random.permutation(key, len(y))
        full = len(y) // batch * batch
        batches = order[:full].reshape(-1, batch)
        state, losses = jax.lax.scan(lambda s, i: step(s, x[i], y[i]), state, batches)
        total = jnp.sum(losses) * batch
        if full < len(y):
            state, loss = step(state, x[order[full:]], y[order[full:]])
            total = total + loss * (len(y) - full)
        return state, total / len(y)

    return run
