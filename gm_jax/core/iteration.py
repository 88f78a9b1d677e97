"""Dataset condensation by gradient matching (arXiv 2208.00311): one iteration.

An *iteration* is the life of one freshly initialised network; an *outer step* is one update of the
synthetic images; an *inner epoch* is one pass of network training over them.  Named scopes tell the
phases apart in a profiler (`experiments/trace.py`).
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, Key

from gm_jax.core.objectives import Match, MatchInfo
from gm_jax.core.schemes import Groups, Scheme, class_labels
from gm_jax.core.signals import (
    Signal,
    cross_entropy,
    loss_gradient,
    microbatched,
    per_class,
    pullback,
)
from gm_jax.core.step_rules import StepRule
from gm_jax.core.training import NetworkState, epoch, start
from gm_jax.data.images import ClassImages, draw_classes, draw_mixed
from gm_jax.nn.networks import Network, Stats

BATCH_NORM_IMAGES = 16
"""Real images a class in the pass that sets BatchNorm's statistics at each outer step."""


class Method(NamedTuple):
    """The equations of a run: functions and sizes.  Swap one to try another.

    Attributes:
        network: what is trained, fresh in every iteration.
        schemes: what is matched, an iteration each in turn: `(scheme,)` is one for all.
        step_rule: how many inner epochs follow an outer step.
        outer_steps: updates of the images an iteration.
        image_optimiser: of the synthetic images; its state lives through the whole run.
        network_optimiser: of the network; its state lives through one iteration.
        signal: `apply -> signal`, what is matched, where `apply(params, x) -> logits`.
        batch_train: images in a batch of an inner epoch.
        batch_validation: real images whose loss the step rule looks at.
        microbatch: images at a time in sums over images; `None` takes all at once.
        class_chunk: classes at a time in the gradients of each; `None` takes all at once.
    """

    network: Network
    schemes: tuple[Scheme, ...]
    step_rule: StepRule
    outer_steps: int
    image_optimiser: optax.GradientTransformation
    network_optimiser: optax.GradientTransformation
    signal: Callable[[Callable], Signal] = loss_gradient
    batch_train: int = 256
    batch_validation: int = 256
    microbatch: int | None = None
    class_chunk: int | None = 1


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


class Place(NamedTuple):
    """Where in a run an outer step stands.

    Attributes:
        iteration: from 0, int32 scalar.
        step: the outer step of this iteration, from 0, int32 scalar.
        last: whether it is the last one, which no inner epochs follow.
    """

    iteration: Int[Array, ""]
    step: Int[Array, ""]
    last: Bool[Array, ""]


class IterationInfo(NamedTuple):
    """What an iteration logs: an entry an outer step.

    Attributes:
        match: the loss and its parts, each float `[outer_steps]`.
        inner_epochs: inner epochs after the step, int32 `[outer_steps]`; the last one is 0.
        rose: whether they ended because the validation loss rose, bool `[outer_steps]`.
        finite: whether the loss, and the images after the step, are finite, bool `[outer_steps]`.
    """

    match: MatchInfo
    inner_epochs: Int[Array, " outer_steps"]
    rose: Bool[Array, " outer_steps"]
    finite: Bool[Array, " outer_steps"]


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

    An iteration that diverges changes nothing: the state stays the last good one, and because the
    key is folded with its iteration, calling again diverges again.

    Args:
        method: the equations.
        key: the run's key, the same for all iterations: `state.iteration` is folded in, so that a
            resumed run is the unbroken run.
        data: the real images.
        state: from `init` or the iteration before.
    """
    steps_key, carry = birth(method, key, state)

    def step(carry, number):
        place = Place(state.iteration, number, number == method.outer_steps - 1)
        return outer_step(method, jax.random.fold_in(steps_key, number), data, carry, place)

    (images, optimiser, _), info = jax.lax.scan(step, carry, jnp.arange(method.outer_steps))
    after = CondenseState(images, optimiser, state.iteration + 1)
    keep = functools.partial(jnp.where, info.finite.all())
    return jax.tree.map(keep, after, state), info


def birth(
    method: Method, key: Key[Array, ""], state: CondenseState
) -> tuple[Key[Array, ""], tuple[Array, Any, NetworkState]]:
    """The key of an iteration's outer steps, and the carry of the first: a fresh network."""
    network_key, steps_key = jax.random.split(jax.random.fold_in(key, state.iteration))
    with jax.named_scope("fresh_network"):
        network_state = start(network_key, method.network, method.network_optimiser)
    return steps_key, (state.images, state.optimiser, network_state)


def outer_step(
    method: Method,
    key: Key[Array, ""],
    data: ClassImages,
    carry: tuple[Array, Any, NetworkState],
    place: Place,
) -> tuple[tuple[Array, Any, NetworkState], IterationInfo]:
    """One update of the images, then inner epochs on them as the step rule says.

    Args:
        method, key, data: the equations, this step's key, the real images.
        carry: images, the image optimiser's state, the network.
        place: the iteration and step that this is.

    Returns:
        the new carry, and the info of this step (scalars).
    """
    images, optimiser, network_state = carry
    match_key, stats_key, inner_key = jax.random.split(key, 3)
    stats = refresh_stats(method, stats_key, data, network_state)
    network_state = network_state._replace(stats=stats)
    matches = [functools.partial(match_images, method, scheme) for scheme in method.schemes]
    turn = place.iteration % len(matches)
    info, gradient = jax.lax.switch(turn, matches, match_key, data, network_state, images)
    updates, optimiser = method.image_optimiser.update(gradient, optimiser, images)
    images = optax.apply_updates(images, updates)
    finite = jnp.isfinite(info.loss) & jnp.isfinite(images).all()
    network_state, epochs, rose = jax.lax.cond(
        place.last,
        lambda state: (state, jnp.zeros((), jnp.int32), jnp.zeros((), bool)),
        lambda state: inner_loop(method, inner_key, data, images, state, place.step),
        network_state,
    )
    return (images, optimiser, network_state), IterationInfo(info, epochs, rose, finite)


def match_images(
    method: Method,
    scheme: Scheme,
    key: Key[Array, ""],
    data: ClassImages,
    network_state: NetworkState,
    images: Float[Array, "C ipc h w channel"],
) -> tuple[MatchInfo, Float[Array, "C ipc h w channel"]]:
    """The matching loss of freshly drawn real images, and its gradient by the images.

    Args:
        method, scheme: the equations.
        key: of the draws.
        data: the real images.
        network_state: the network, which stays as it is.
        images: the synthetic ones.
    """
    real_key, synthetic_key = jax.random.split(key)
    with jax.named_scope("draw"):
        groups = scheme.real(real_key, data)
    with jax.named_scope("real_signals"):
        real_signals = group_signals(method, network_state, groups)
    choose = functools.partial(scheme.synthetic, synthetic_key)
    x, to_images, y = jax.vjp(choose, images, has_aux=True)
    info, gradient = match_signals(method, scheme.match, network_state, real_signals, (x, y))
    return info, to_images(gradient)[0]


def group_signals(method: Method, network_state: NetworkState, groups: Groups) -> Any:
    """g of each group's images, a pytree `[G, ...]`."""
    of_group = microbatched(_signal(method, network_state), method.microbatch)
    return per_class(of_group, method.class_chunk)(network_state.params, *groups)


def match_signals(
    method: Method,
    match: Match,
    network_state: NetworkState,
    real_signals: Any,
    groups: Groups,
) -> tuple[MatchInfo, Float[Array, "G n h w channel"]]:
    """The loss of the groups of synthetic images and its gradient by them, given gT of each group.

        L = match(gS, gT),   dL/dS_c = <dgS_c/dS_c, dL/dgS_c>

    The chain rule is written out at the signals: first all signals, then dL/dgS, then each group's
    pullback.  So no more than one microbatch's intermediates are ever kept.
    """
    with jax.named_scope("synthetic_signals"):
        signals = group_signals(method, network_state, groups)
    with jax.named_scope("match"):
        (_, info), cotangents = jax.value_and_grad(match, has_aux=True)(signals, real_signals)
    with jax.named_scope("pullback"):
        of_group = pullback(_signal(method, network_state), method.microbatch)
        pull = per_class(of_group, method.class_chunk)
        return info, pull(network_state.params, *groups, cotangents)


def _signal(method: Method, network_state: NetworkState) -> Signal:
    stats = network_state.stats
    return method.signal(lambda params, x: method.network.apply(params, stats, x))


@jax.named_scope("inner_loop")
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


def refresh_stats(
    method: Method, key: Key[Array, ""], data: ClassImages, state: NetworkState
) -> Stats:
    """BatchNorm's statistics after one train-mode pass over real images, frozen for the step."""
    if not jax.tree.leaves(state.stats):
        return state.stats
    x, _ = draw_classes(key, data, BATCH_NORM_IMAGES)
    return method.network.train(state.params, state.stats, x.reshape(-1, *x.shape[2:]))[1]
