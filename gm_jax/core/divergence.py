"""Where an iteration stops being finite: found by doing it again, an outer step at a time."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from gm_jax.core.iteration import (
    CondenseState,
    IterationInfo,
    Method,
    Place,
    birth,
    group_signals,
    outer_step,
    refresh_stats,
)
from gm_jax.core.training import NetworkState
from gm_jax.data.images import ClassImages


class Divergence(NamedTuple):
    """The first thing of a run that was not finite.

    Attributes:
        iteration: from 0.
        step: the outer step, from 0.
        part: `intra` or `inter`, the loss; or `images`, those after the update.
        tensor: of the network, as `params/Conv_0/kernel`; `None` if it is none of them.
        cause: the setting of `Config` that is likely to blame.
    """

    iteration: int
    step: int
    part: str
    tensor: str | None
    cause: str


def locate(
    method: Method, key: Key[Array, ""], data: ClassImages, state: CondenseState
) -> Divergence | None:
    """The first thing that is not finite in the iteration after `state`; `None` if all is.

    Args:
        method: the equations.
        key: the run's key.
        data: the real images.
        state: of one run, the last good one.
    """
    steps_key, carry = birth(method, key, state)
    one_step = jax.jit(lambda *arguments: outer_step(method, *arguments))
    for number in range(method.outer_steps):
        last = jnp.asarray(number == method.outer_steps - 1)
        place = Place(state.iteration, jnp.asarray(number, jnp.int32), last)
        step_key = jax.random.fold_in(steps_key, number)
        after, info = one_step(step_key, data, carry, place)
        if not info.finite:
            return _first(method, step_key, data, carry, place, info)
        carry = after
    return None


def _first(
    method: Method,
    key: Key[Array, ""],
    data: ClassImages,
    carry: tuple[Array, Any, NetworkState],
    place: Place,
    info: IterationInfo,
) -> Divergence:
    """Which part and tensor of an outer step that is known to fail."""
    where = (int(place.iteration), int(place.step))
    images, _, network_state = carry
    exploded = jnp.abs(images).max() > EXPLODED
    part = "inter" if jnp.isfinite(info.match.intra) else "intra"
    if jnp.isfinite(info.match.loss):
        return Divergence(*where, "images", None, "image_lr")
    if weights := _not_finite(network_state.params):
        return Divergence(*where, part, weights, "image_lr" if exploded else "network_lr")
    scheme = method.schemes[where[0] % len(method.schemes)]

    @jax.jit
    def signals(key, data, images, network_state):
        match_key, stats_key, _ = jax.random.split(key, 3)
        stats = refresh_stats(method, stats_key, data, network_state)
        network_state = network_state._replace(stats=stats)
        real_key, synthetic_key = jax.random.split(match_key)
        groups = scheme.synthetic(synthetic_key, images), scheme.real(real_key, data)
        return tuple(group_signals(method, network_state, of) for of in groups)

    synthetic, real = signals(key, data, images, network_state)
    losses = jax.tree.map(lambda a, b: getattr(scheme.match([a], [b])[1], part), synthetic, real)
    of_weight = part == "inter" and not exploded and not _not_finite(synthetic)
    return Divergence(
        *where, part, _not_finite(losses), "inter_weight" if of_weight else "image_lr"
    )


EXPLODED = 1e6
"""Normalised pixels beyond this are no images any more, whatever fails first."""


def _not_finite(tree: Any) -> str | None:
    """The first leaf that holds a NaN or an infinity, by its path."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if not jnp.isfinite(leaf).all():
            return jax.tree_util.keystr(path, simple=True, separator="/")
    return None
