"""Where an iteration stops being finite: found by repeating it, one outer step at a time."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from gm_jax.core.iteration import (
    begin,
    group_signals,
    match_images,
    match_of,
    outer_step,
    place,
    real_groups,
    refresh_stats,
    step_keys,
    synthetic_groups,
)
from gm_jax.core.method import IterationInfo, Method, State, StepState, of_real
from gm_jax.core.objectives import MatchInfo, Place
from gm_jax.core.schemes import Scheme
from gm_jax.data.images import ClassImages
from gm_jax.nn import platforms

EXPLODED = 1e6
"""Normalised pixels beyond this are no images any more, whatever fails first."""


class Divergence(NamedTuple):
    """The first thing of a set that was not finite.

    Attributes:
        iteration: from 0.
        step: the outer step, from 0.
        part: `intra` or `inter`, that part of the loss; `loss`, of which both are finite;
            `gradient`, that of a finite loss by the images; or `images`, those after the update.
        tensor: of the network, as `Conv_0/kernel`, or else of the signal, by its path there;
            `None` if it is none of them.
        cause: the setting of `Config` that is likely to blame; `None` for the gradient of images
            that have not grown: a derivative is to blame.
    """

    iteration: int
    step: int
    part: str
    tensor: str | None
    cause: str | None


def find_divergence(
    method: Method, key: Key[Array, ""], data: ClassImages, state: State
) -> Divergence | None:
    """The first thing that is not finite in the iteration after `state`; `None` if all is.

    Args:
        method: the equations.
        key: the set's key.
        data: the real images.
        state: of one set, the last good one.
    """
    carried, keys = begin(method, key, state)
    of_method = lambda *arguments: outer_step(method, *arguments)
    one_step = jax.jit(of_method, compiler_options=platforms.compiler_options())
    for number, step_key in enumerate(keys):
        at = place(method, state.iteration, jnp.asarray(number, jnp.int32))
        after, info = one_step(step_key, data, carried, at)
        if not info.finite:
            return _first(method, step_key, data, carried, at, info)
        carried = after
    return None


def _first(
    method: Method,
    key: Key[Array, ""],
    data: ClassImages,
    state: StepState,
    at: Place,
    info: IterationInfo,
) -> Divergence:
    """Which part and tensor of an outer step that is known to fail."""
    where = (int(at.iteration), int(at.step))
    exploded = jnp.abs(state.images).max() > EXPLODED
    parts = {name: getattr(info.match, name) for name in ("intra", "inter")}
    part = next((name for name, of in parts.items() if not jnp.isfinite(of)), "loss")
    scheme = method.schemes[where[0] % len(method.schemes)]

    gradient = jax.jit(functools.partial(_gradient, method, at, scheme))
    if jnp.isfinite(info.match.loss):
        if exploded or jnp.isfinite(gradient(key, data, state)).all():
            return Divergence(*where, "images", None, "image_lr")
        return Divergence(*where, "gradient", None, None)
    if weights := _not_finite(state.network.params):
        return Divergence(*where, part, weights, "image_lr" if exploded else "network_lr")

    signals = jax.jit(functools.partial(_signals, method, scheme))
    synthetic, real = signals(key, data, state)
    tensor = _tensor(match_of(method, scheme, at, len(state.images)), part, synthetic, real)
    of_weight_one = match_of(method._replace(inter_weight=1.0), scheme, at, len(state.images))
    by_weight = part == "inter" and bool(jnp.isfinite(of_weight_one(synthetic, real).inter))
    cause = "inter_weight" if by_weight and not exploded else "image_lr"
    return Divergence(*where, part, tensor, cause)


def _gradient(
    method: Method,
    at: Place,
    scheme: Scheme,
    key: Key[Array, ""],
    data: ClassImages,
    state: StepState,
) -> jax.Array:
    """That of the matching loss, with respect to what is learned."""
    keys = step_keys(key)
    network = refresh_stats(method, keys.stats, data, state.network)
    return match_images(method, at, keys, scheme, data, network, state.images)[1]


def _signals(
    method: Method, scheme: Scheme, key: Key[Array, ""], data: ClassImages, state: StepState
) -> tuple[Any, Any]:
    """Those of the synthetic and those of the real images."""
    keys = step_keys(key)
    network = refresh_stats(method, keys.stats, data, state.network)
    synthetic = synthetic_groups(method, scheme, keys, state.images)
    real = real_groups(method, scheme, keys, data)
    of_synthetic = group_signals(method, network, synthetic)
    return of_synthetic, group_signals(of_real(method), network, real)


def _tensor(
    match: Callable[[Any, Any], MatchInfo], part: str, synthetic: Any, real: Any
) -> str | None:
    """The first tensor whose part of the loss is not finite."""
    leaves, structure = jax.tree.flatten(real)
    pairs = [(_alone(synthetic, number), _alone(real, number)) for number in range(len(leaves))]
    losses = [getattr(match(a, b), part) for a, b in pairs]
    return _not_finite(jax.tree.unflatten(structure, losses))


def _alone(signals: Any, number: int) -> Any:
    """The signals with all leaves but that one equal to 1, where no distance is infinite.

    A distance may need the whole tree: the names of its tensors, or the number of its parts.
    """
    leaves, structure = jax.tree.flatten(signals)
    ones = [leaf if at == number else jnp.ones_like(leaf) for at, leaf in enumerate(leaves)]
    return jax.tree.unflatten(structure, ones)


def _not_finite(tree: Any) -> str | None:
    """The first leaf that holds a NaN or an infinity, by its path."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if not jnp.isfinite(leaf).all():
            return jax.tree_util.keystr(path, simple=True, separator="/")
    return None
