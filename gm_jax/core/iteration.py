"""One iteration of dataset condensation by gradient matching (arXiv 2208.00311).

Read from the top: an iteration is a scan over outer steps, an outer step matches signals, moves the
images and trains the network on them.  Named scopes tell the phases apart in a profiler.

Where the classes are spread over devices (`data.spread`), each computes the signals of its own and
does all the rest as the others do.  Collectives stand where `spread` is called, and nowhere else.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, Key

from gm_jax.core.batching import chunked, microbatched, microbatched_pullback, per_class
from gm_jax.core.method import IterationInfo, Method, State, StepState, of_real
from gm_jax.core.objectives import MatchInfo, Place
from gm_jax.core.schemes import Scheme
from gm_jax.core.signals import Model, pullback
from gm_jax.core.training import EpochKeys, NetworkState, epoch, mean_loss, start
from gm_jax.data import spread
from gm_jax.data.drawing import draw_classes, draw_mixed
from gm_jax.data.images import Batch, ClassImages
from gm_jax.data.spread import HERE, Spread

BATCH_NORM_IMAGES = 16
"""Real images of each class in the pass that sets BatchNorm's statistics at each outer step."""


class StepKeys(NamedTuple):
    """The keys of one outer step: every draw has its own.

    Attributes:
        real: of the real images that are matched.
        synthetic: of the synthetic ones, where a scheme takes only some.
        augment: of the random change of the images that are matched; the group is folded in.
        stats: of the real images that set BatchNorm's statistics.
        validation: of the real images that the step rule looks at.
        epochs: of the order of images; the number of the inner epoch is folded in.
        inner_data: of what the network trains on; the number of the inner epoch is folded in.
        inner_augment: of its random changes; the number of the inner epoch is folded in.
    """

    real: Key[Array, ""]
    synthetic: Key[Array, ""]
    augment: Key[Array, ""]
    stats: Key[Array, ""]
    validation: Key[Array, ""]
    epochs: Key[Array, ""]
    inner_data: Key[Array, ""]
    inner_augment: Key[Array, ""]


def step_keys(key: Key[Array, ""]) -> StepKeys:
    """The keys of the outer step whose key this is."""
    match, stats, inner = jax.random.split(key, 3)
    real, synthetic, augment = jax.random.split(match, 3)
    validation, epochs, inner_data = jax.random.split(inner, 3)
    inner_data, inner_augment = jax.random.split(inner_data)
    return StepKeys(real, synthetic, augment, stats, validation, epochs, inner_data, inner_augment)


def init(method: Method, images: Float[Array, "C ipc h w channel"]) -> State:
    """The state before the first iteration, from the images at the start."""
    learned = method.parametrisation.start(images)
    optimiser = _image_optimiser(method).init(learned)
    return State(learned, optimiser, jnp.zeros((), jnp.int32))


def _image_optimiser(method: Method) -> optax.GradientTransformationExtraArgs:
    """That of the images, which may look at the matching loss, as `value`."""
    return optax.with_extra_args_support(method.image_optimiser(method.image_lr))


def iteration(
    method: Method, key: Key[Array, ""], data: ClassImages, state: State
) -> tuple[State, IterationInfo]:
    """One network's life: `outer_steps` image updates, each but the last followed by inner epochs.

    An iteration that diverges changes nothing: the state stays the last good one, and because
    `state.iteration` is folded into the key, calling again diverges again.

    Args:
        method: the equations.
        key: the set's key, the same for all iterations, so that a resumed run is the unbroken run.
        data: the real images.
        state: from `init` or the iteration before.

    Returns:
        the state after it, or the one given if anything was not finite; and its info, arrays
        `[outer_steps]`.
    """
    last, (info, _) = outer_steps(method, key, data, state)
    after = State(last.images, last.optimiser, state.iteration + 1)
    keep = functools.partial(jnp.where, info.finite.all())
    return jax.tree.map(keep, after, state), info


def outer_steps(
    method: Method,
    key: Key[Array, ""],
    data: ClassImages,
    state: State,
    observe: Callable[[StepState], Any] = lambda step_state: (),
) -> tuple[StepState, tuple[IterationInfo, Any]]:
    """The outer steps of the iteration after `state`, whether or not they are finite.

    Args:
        method, key, data, state: as in `iteration`.
        observe: what else to note after each step, a pytree.

    Returns:
        what the last step carries, and the info and observations, `[outer_steps, ...]`.
    """
    first, keys = begin(method, key, state)

    def step(carried, of_step):
        number, step_key = of_step
        at = place(method, state.iteration, number, data.spread)
        carried, info = outer_step(method, step_key, data, carried, at)
        return carried, (info, observe(carried))

    return jax.lax.scan(step, first, (jnp.arange(method.outer_steps), keys))


def begin(
    method: Method, key: Key[Array, ""], state: State
) -> tuple[StepState, Key[Array, " outer_steps"]]:
    """What the first outer step of the next iteration is given, and the keys of all of them."""
    network_key, keys = all_step_keys(method, key, state.iteration)
    with jax.named_scope("fresh_network"):
        network = start(network_key, method.network, method.network_optimiser(method.network_lr))
    images = method.parametrisation.project(state.images)
    return StepState(images, state.optimiser, network), keys


def all_step_keys(
    method: Method, key: Key[Array, ""], iteration: Int[Array, ""]
) -> tuple[Key[Array, ""], Key[Array, " outer_steps"]]:
    """The key of an iteration's network, and the keys of its outer steps."""
    network_key, steps_key = jax.random.split(jax.random.fold_in(key, iteration))
    fold = jax.vmap(jax.random.fold_in, (None, 0))
    return network_key, fold(steps_key, jnp.arange(method.outer_steps))


def place(
    method: Method, iteration: Int[Array, ""], step: Int[Array, ""], where: Spread = HERE
) -> Place:
    """Where the outer step of that number stands."""
    return Place(iteration, step, step == method.outer_steps - 1, where)


def outer_step(
    method: Method, key: Key[Array, ""], data: ClassImages, state: StepState, place: Place
) -> tuple[StepState, IterationInfo]:
    """One update of the images, then inner epochs on them as the step rule decides.

    Args:
        method: the equations.
        key: the step's.
        data: the real images.
        state: from `begin` or the step before.
        place: the iteration and step that this is.

    Returns:
        the new state, and the info of this step (scalars).
    """
    keys = step_keys(key)
    network = refresh_stats(method, keys.stats, data, state.network)
    match = functools.partial(match_images, method, place, keys)
    matches = [functools.partial(match, scheme) for scheme in method.schemes]
    turn = place.iteration % len(matches)
    info, gradient = jax.lax.switch(turn, matches, data, network, state.images)
    updates, optimiser_state = _image_optimiser(method).update(
        gradient, state.optimiser, state.images, value=info.loss
    )
    images = optax.apply_updates(state.images, updates)
    finite = jnp.isfinite(info.loss) & jnp.isfinite(images).all()
    done = lambda network: (network, jnp.zeros((), jnp.int32), jnp.zeros((), bool))
    train = lambda network: inner_loop(method, keys, data, images, network, place.step)
    if method.outer_steps == 1:  # a loop that never runs would be compiled, and forbid reverse mode
        network, epochs, loss_rose = done(network)
    else:
        network, epochs, loss_rose = jax.lax.cond(place.last, done, train, network)
    state = StepState(images, optimiser_state, network)
    return state, IterationInfo(info, epochs, loss_rose, finite)


# --- matching -------------------------------------------------------------------------------------


def match_images(
    method: Method,
    place: Place,
    keys: StepKeys,
    scheme: Scheme,
    data: ClassImages,
    network: NetworkState,
    images: Float[Array, "C ipc *shape"],
) -> tuple[MatchInfo, Float[Array, "C ipc *shape"]]:
    """The matching loss of freshly drawn real images, and its gradient by what is learned.

    Args:
        method: the equations.
        place: where the outer step stands.
        keys: of the draws.
        scheme: which images are matched.
        data: the real images.
        network: stays as it is.
        images: what is learned.
    """
    groups = real_groups(method, scheme, keys, data)  # a scope of its own
    with jax.named_scope("real_signals"):
        real_signals = group_signals(of_real(method), network, groups)

    def choose(images):
        groups = synthetic_groups(method, scheme, keys, images, data.spread)
        return groups.x, groups.y

    x, to_images, y = jax.vjp(choose, images, has_aux=True)
    match = match_of(method, scheme, place, len(images))
    info, gradient = match_signals(method, match, network, real_signals, Batch(x, y))
    return info, spread.add(data.spread, to_images(gradient)[0])


def match_of(
    method: Method, scheme: Scheme, place: Place, classes: int
) -> Callable[[Any, Any], MatchInfo]:
    """`(gS, gT) -> MatchInfo`: a scheme's objective, of the method's distance and weight.

    The weight is the number of classes where the method has none: the paper's.
    """
    weight = classes if method.inter_weight is None else method.inter_weight
    return functools.partial(scheme.objective, place, method.distance, weight)


@jax.named_scope("draw")
def real_groups(method: Method, scheme: Scheme, keys: StepKeys, data: ClassImages) -> Batch:
    """The real images that a step matches, drawn and augmented."""
    return _augmented(method, keys, scheme.real(keys.real, data), data.spread)


def synthetic_groups(
    method: Method,
    scheme: Scheme,
    keys: StepKeys,
    images: Float[Array, "C ipc *shape"],
    where: Spread = HERE,
) -> Batch:
    """The synthetic images that a step matches: decoded, chosen, and augmented as the real ones.

    Of all groups, those of the classes at hand.
    """
    decoded = method.parametrisation.decode(images)
    groups = scheme.synthetic(keys.synthetic, decoded)
    groups = jax.tree.map(functools.partial(spread.of_all, where), groups)
    return _augmented(method, keys, groups, where)


def _augmented(method: Method, keys: StepKeys, groups: Batch, where: Spread) -> Batch:
    if method.augment is None:
        return groups
    numbers = spread.labels(where, len(groups.x))
    group_keys = jax.vmap(jax.random.fold_in, (None, 0))(keys.augment, numbers)
    return groups._replace(x=chunked(method.augment, method.class_chunk)(group_keys, groups.x))


def group_signals(method: Method, network: NetworkState, groups: Batch) -> Any:
    """The signal of each group's images, a pytree `[G, ...]`."""
    model = _model(method, network)
    signal = lambda params, x, y: method.signal.of(model, params, x, y)
    of_group = microbatched(signal, _signal_microbatch(method))
    return per_class(of_group, _classes_at_a_time(method, groups))(network.params, *groups)


def signal_of(
    method: Method, shape: tuple[int, int, int], key: Key[Array, ""], number: int = 1
) -> Any:
    """The signal of images of zeros, in a fresh network: to see what signals look like.

    Args:
        method: the equations.
        shape: of an image.
        key: of the network.
        number: of images.
    """
    groups = Batch(jnp.zeros((1, number, *shape)), jnp.zeros((1, number), jnp.int32))
    network = NetworkState(*method.network.init(key), None)
    return jax.tree.map(lambda a: a[0], group_signals(method, network, groups))


def match_signals(
    method: Method,
    match: Callable[[Any, Any], MatchInfo],
    network: NetworkState,
    real_signals: Any,
    groups: Batch,
) -> tuple[MatchInfo, Float[Array, "G n h w channel"]]:
    """The loss of the groups of synthetic images and its gradient by them, given gT of each group.

        L = match(gS, gT),   dL/dS_c = <dgS_c/dS_c, dL/dgS_c>

    The chain rule is written out at the signals: first all signals, then dL/dgS, then each group's
    pullback.  So no more than one microbatch's intermediates are ever kept.
    """
    with jax.named_scope("synthetic_signals"):
        signals = group_signals(method, network, groups)

    def loss(signals):
        info = match(signals, real_signals)
        return info.loss, info

    with jax.named_scope("match"):
        (_, info), cotangents = jax.value_and_grad(loss, has_aux=True)(signals)
    with jax.named_scope("pullback"):
        pull = functools.partial(pullback(method.signal), _model(method, network))
        of_group = microbatched_pullback(pull, _signal_microbatch(method))
        pull_groups = per_class(of_group, _classes_at_a_time(method, groups))
        return info, pull_groups(network.params, *groups, cotangents)


def _signal_microbatch(method: Method) -> int | None:
    """A signal that is not a mean over images is never cut."""
    return method.microbatch if method.signal.mean_over_images else None


def _classes_at_a_time(method: Method, groups: Batch) -> int | None:
    """`class_chunk`, but all where the images of all fit in one microbatch."""
    size = _signal_microbatch(method)
    fit = size is not None and math.prod(groups.x.shape[:2]) <= size
    return None if fit else method.class_chunk


def _model(method: Method, network: NetworkState) -> Model:
    return Model(
        logits=lambda params, x: method.network.apply(params, network.stats, x),
        features=lambda params, x: method.network.features(params, network.stats, x),
    )


# --- the network between two matches --------------------------------------------------------------


@jax.named_scope("inner_loop")
def inner_loop(
    method: Method,
    keys: StepKeys,
    data: ClassImages,
    images: Float[Array, "C ipc *shape"],
    network: NetworkState,
    step: Int[Array, ""],
) -> tuple[NetworkState, Int[Array, ""], Bool[Array, ""]]:
    """Inner epochs on `method.inner_data` while the step rule keeps going.

    Returns:
        the network, the epochs taken, and whether the last one made the validation loss rise.
    """
    decoded = method.parametrisation.decode(images)
    optimiser = method.network_optimiser(method.network_lr)
    train = epoch(
        method.network, optimiser, method.batch_train, method.microbatch, method.inner_augment
    )
    validation = draw_mixed(keys.validation, data, method.batch_validation)

    loss_of = lambda state: mean_loss(method.network, state, validation, method.microbatch)

    def body(carry):
        state, rule_state = carry
        fold = lambda key: jax.random.fold_in(key, rule_state.epochs)
        batch = method.inner_data(fold(keys.inner_data), data, decoded)
        epoch_keys = EpochKeys(fold(keys.epochs), fold(keys.inner_augment))
        state, _ = train(epoch_keys, state, batch)
        return state, method.step_rule.update(rule_state, lambda: loss_of(state))

    rule_state = method.step_rule.init(step, lambda: loss_of(network))
    network, rule_state = jax.lax.while_loop(
        lambda carry: method.step_rule.keep_going(carry[1]), body, (network, rule_state)
    )
    return spread.agreed(data.spread, (network, rule_state.epochs, rule_state.loss_rose))


def refresh_stats(
    method: Method, key: Key[Array, ""], data: ClassImages, network: NetworkState
) -> NetworkState:
    """BatchNorm's statistics from one train-mode pass over real images, frozen for the step.

    All classes weigh the same: images of one that has fewer than are drawn count repeatedly.
    """
    if not jax.tree.leaves(network.stats):
        return network
    x, _ = draw_classes(key, data, BATCH_NORM_IMAGES)
    x = spread.gather(data.spread, x)
    x = x.reshape(-1, *x.shape[2:])
    return network._replace(stats=method.network.train(network.params, network.stats, x)[1])
