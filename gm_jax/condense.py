"""Dataset condensation by gradient matching (arXiv 2208.00311): one iteration, and the run of many.

An *iteration* is the life of one freshly initialised network; an *outer step* is one update of the
synthetic images; an *inner epoch* is one pass of network training over them.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, Key

from gm_jax.data import ClassImages, draw_classes, draw_mixed
from gm_jax.gradients import (
    Signal,
    cross_entropy,
    loss_gradient,
    microbatched,
    per_class,
    pullback,
)
from gm_jax.matching import Match, MatchInfo
from gm_jax.networks import Network, Params, Stats
from gm_jax.step_rules import StepRule
from gm_jax.training import NetworkState, epoch, start

BATCH_NORM_IMAGES = 16
"""Real images a class in the pass that sets BatchNorm's statistics at each outer step."""


class Method(NamedTuple):
    """The equations of a run: functions and sizes.  Swap one to try another.

    Attributes:
        network: what is trained, fresh in every iteration.
        match: `(gS, gT) -> (loss, info)`, a scheme with its distance.
        step_rule: how many inner epochs follow an outer step.
        outer_steps: updates of the images an iteration.
        image_optimiser: of the synthetic images; its state lives through the whole run.
        network_optimiser: of the network; its state lives through one iteration.
        signal: `apply -> signal`, what is matched, where `apply(params, x) -> logits`.
        batch_real: real images a class at each outer step.
        batch_train: images in a batch of an inner epoch.
        batch_validation: real images whose loss the step rule looks at.
        microbatch: images at a time in sums over images; `None` takes all at once.
    """

    network: Network
    match: Match
    step_rule: StepRule
    outer_steps: int
    image_optimiser: optax.GradientTransformation
    network_optimiser: optax.GradientTransformation
    signal: Callable[[Callable], Signal] = loss_gradient
    batch_real: int = 256
    batch_train: int = 256
    batch_validation: int = 256
    microbatch: int | None = None


class CondenseState(NamedTuple):
    """What a run carries from one iteration to the next.

    Attributes:
        images: synthetic images, normalised, float `[C, ipc, height, width, channel]`.
        optimiser: the image optimiser's state.
        iteration: iterations done, int32 scalar.
    """

    images: Float[Array, "C ipc h w channel"]
    optimiser: Any
    iteration: Int[Array, ""]


class IterationInfo(NamedTuple):
    """What an iteration logs: an entry an outer step.

    Attributes:
        match: the loss and its parts, each float `[outer_steps]`.
        inner_epochs: inner epochs after the step, int32 `[outer_steps]`; the last one is 0.
        rose: whether they ended because the validation loss rose, bool `[outer_steps]`.
    """

    match: MatchInfo
    inner_epochs: Int[Array, " outer_steps"]
    rose: Bool[Array, " outer_steps"]


# --- the start ------------------------------------------------------------------------------------


def noise_images(
    key: Key[Array, ""], data: ClassImages, ipc: int
) -> Float[Array, "C ipc h w channel"]:
    """N(0, 1) in normalised pixel space."""
    classes, _, *shape = data.images.shape
    return jax.random.normal(key, (classes, ipc, *shape))


def real_images(
    key: Key[Array, ""], data: ClassImages, ipc: int
) -> Float[Array, "C ipc h w channel"]:
    """Real images drawn without replacement; ipc is at most the smallest class."""
    return draw_classes(key, data, ipc)[0]


def init(method: Method, images: Float[Array, "C ipc h w channel"]) -> CondenseState:
    """The state before the first iteration, from the images to start with."""
    return CondenseState(images, method.image_optimiser.init(images), jnp.zeros((), jnp.int32))


# --- one iteration --------------------------------------------------------------------------------


def iteration(
    method: Method, key: Key[Array, ""], data: ClassImages, state: CondenseState
) -> tuple[CondenseState, IterationInfo]:
    """One network's life: `outer_steps` image updates, each but the last followed by inner epochs.

    Args:
        method: the equations.
        key: the run's key, the same for all iterations: `state.iteration` is folded in, so that a
            resumed run is the unbroken run.
        data: the real images.
        state: from `init` or the iteration before.
    """
    network_key, steps_key = jax.random.split(jax.random.fold_in(key, state.iteration))
    network_state = start(network_key, method.network, method.network_optimiser)

    def step(carry, number):
        last = number == method.outer_steps - 1
        step_key = jax.random.fold_in(steps_key, number)
        return outer_step(method, step_key, data, carry, number, last)

    carry = (state.images, state.optimiser, network_state)
    (images, optimiser, _), info = jax.lax.scan(step, carry, jnp.arange(method.outer_steps))
    return CondenseState(images, optimiser, state.iteration + 1), info


def outer_step(
    method: Method,
    key: Key[Array, ""],
    data: ClassImages,
    carry: tuple[Array, Any, NetworkState],
    number: Int[Array, ""],
    last: Bool[Array, ""],
) -> tuple[tuple[Array, Any, NetworkState], IterationInfo]:
    """One update of the images, then inner epochs on them as the step rule says.

    Args:
        method, key, data: the equations, this step's key, the real images.
        carry: images, the image optimiser's state, the network.
        number: of this outer step, from 0.
        last: whether no inner epochs follow.

    Returns:
        the new carry, and the info of this step (scalars).
    """
    images, optimiser, network_state = carry
    real_key, stats_key, inner_key = jax.random.split(key, 3)
    stats = _refresh_stats(method, stats_key, data, network_state)
    network_state = network_state._replace(stats=stats)
    real = draw_classes(real_key, data, method.batch_real)
    info, gradient = match_images(method, network_state.params, stats, real, images)
    updates, optimiser = method.image_optimiser.update(gradient, optimiser, images)
    images = optax.apply_updates(images, updates)
    network_state, epochs, rose = jax.lax.cond(
        last,
        lambda state: (state, jnp.zeros((), jnp.int32), jnp.zeros((), bool)),
        lambda state: inner_loop(method, inner_key, data, images, state, number),
        network_state,
    )
    return (images, optimiser, network_state), IterationInfo(info, epochs, rose)


def match_images(
    method: Method,
    params: Params,
    stats: Stats,
    real: tuple[Float[Array, "C b h w channel"], Int[Array, "C b"]],
    images: Float[Array, "C ipc h w channel"],
) -> tuple[MatchInfo, Float[Array, "C ipc h w channel"]]:
    """The matching loss of `images` with the `real` images and labels, and its gradient."""
    return match_signals(method, params, stats, real_signals(method, params, stats, real), images)


def real_signals(
    method: Method,
    params: Params,
    stats: Stats,
    real: tuple[Float[Array, "C b h w channel"], Int[Array, "C b"]],
) -> Any:
    """gT: the signal of each class's real images and labels, a pytree `[C, ...]`."""
    signal = _signal(method, stats)
    return per_class(microbatched(signal, method.microbatch), 1)(params, *real)


def match_signals(
    method: Method,
    params: Params,
    stats: Stats,
    real_signals: Any,
    images: Float[Array, "C ipc h w channel"],
) -> tuple[MatchInfo, Float[Array, "C ipc h w channel"]]:
    """The matching loss of `images` with gT (from `real_signals`), and its gradient by the images.

        L = match(gS, gT),   dL/dS_c = <dgS_c/dS_c, dL/dgS_c>

    The chain rule is written out at the signals: first all signals, then dL/dgS, then each class's
    pullback.  So no more than one microbatch's intermediates are ever kept.
    """
    signal = _signal(method, stats)
    labels = class_labels(images)
    signals = per_class(microbatched(signal, method.microbatch), 1)(params, images, labels)
    (_, info), cotangents = jax.value_and_grad(method.match, has_aux=True)(signals, real_signals)
    pull = per_class(pullback(signal, method.microbatch), 1)
    return info, pull(params, images, labels, cotangents)


def _signal(method: Method, stats: Stats) -> Signal:
    return method.signal(lambda params, x: method.network.apply(params, stats, x))


def inner_loop(
    method: Method,
    key: Key[Array, ""],
    data: ClassImages,
    images: Float[Array, "C ipc h w channel"],
    network_state: NetworkState,
    number: Int[Array, ""],
) -> tuple[NetworkState, Int[Array, ""], Bool[Array, ""]]:
    """Inner epochs on the synthetic images while the step rule keeps going.

    Returns:
        the network, the epochs taken, and whether the last one made the validation loss rise.
    """
    validation_key, epochs_key = jax.random.split(key)
    x = images.reshape(-1, *images.shape[2:])
    y = class_labels(images).reshape(-1)
    train = epoch(method.network, method.network_optimiser, method.batch_train, method.microbatch)

    validation = draw_mixed(validation_key, data, method.batch_validation)

    def validation_loss(state):
        def loss(params, x, y):
            return cross_entropy(method.network.apply(params, state.stats, x), y)

        return microbatched(loss, method.microbatch)(state.params, *validation)

    def body(carry):
        state, steps = carry
        epoch_key = jax.random.fold_in(epochs_key, steps.epochs)
        state, _ = train(epoch_key, state, x, y)
        return state, method.step_rule.update(steps, lambda: validation_loss(state))

    steps = method.step_rule.init(number, lambda: validation_loss(network_state))
    network_state, steps = jax.lax.while_loop(
        lambda carry: method.step_rule.keep_going(carry[1]), body, (network_state, steps)
    )
    return network_state, steps.epochs, steps.rose


def class_labels(images: Float[Array, "C ipc h w channel"]) -> Int[Array, "C ipc"]:
    """Label c for every image of row c."""
    classes, ipc = images.shape[:2]
    return jnp.broadcast_to(jnp.arange(classes, dtype=jnp.int32)[:, None], (classes, ipc))


def _refresh_stats(
    method: Method, key: Key[Array, ""], data: ClassImages, state: NetworkState
) -> Stats:
    """BatchNorm's statistics after one train-mode pass over real images, frozen for the step."""
    if not jax.tree.leaves(state.stats):
        return state.stats
    x, _ = draw_classes(key, data, BATCH_NORM_IMAGES)
    return method.network.train(state.params, state.stats, x.reshape(-1, *x.shape[2:]))[1]


# --- the run --------------------------------------------------------------------------------------


def run(
    method: Method,
    keys: Key[Array, " seeds"],
    data: ClassImages,
    state: CondenseState,
    iterations: int,
    log: Callable[[int, IterationInfo], None] = lambda number, info: None,
) -> CondenseState:
    """`iterations` iterations, one compiled program each, of one or more seeds at once.

    Args:
        method: the equations.
        keys: a run's key a seed.
        data: the real images.
        state: with a leading seeds axis on every array; given up, its buffers are used again.
        iterations: how many.
        log: called with each iteration's number (from 0) and info `[seeds, outer_steps]`, one
            iteration late, so that the device never waits for the host.

    Returns:
        the last state.
    """

    @functools.partial(jax.jit, donate_argnums=2)
    def step(keys, data, state):
        return jax.lax.map(lambda ks: iteration(method, ks[0], data, ks[1]), (keys, state))

    before = None
    for number in range(iterations):
        state, info = step(keys, data, state)
        if before is not None:
            log(number - 1, jax.device_get(before))
        before = info
    if before is not None:
        log(iterations - 1, jax.device_get(before))
    return state
