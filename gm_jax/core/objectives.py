"""Objectives: the matching loss of all groups' signals, and its parts (arXiv 2208.00311, sec. 3.1).

An objective is `(place, distance, inter_weight, gS, gT) -> MatchInfo`: of where in a run an outer
step stands, and of two pytrees of signals `[G, ...]`, those of the synthetic and those of the real
images.  G is the number of classes C, or 1 for mixed classes.  Where the classes are spread over
devices, G is only those at hand: an objective takes its sums and means over classes by `class_sum`
and `class_mean` with `place.spread`, and its loss is that of all classes on every device.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from gm_jax.core.distances import Distance
from gm_jax.data.spread import HERE, Spread, class_mean, class_sum

Tree = Any
Weight = Float[Array, ""] | float | int


class Place(NamedTuple):
    """Where in a run an outer step stands.

    Attributes:
        iteration: from 0, int32 scalar.
        step: the outer step of this iteration, from 0, int32 scalar.
        last: whether it is the last one, which no inner epochs follow.
        spread: where the classes are.
    """

    iteration: Int[Array, ""]
    step: Int[Array, ""]
    last: Bool[Array, ""]
    spread: Spread = HERE


class MatchInfo(NamedTuple):
    """A matching loss and its parts.  An objective returns scalars; a run logs one for each step.

    Only `loss` is minimised: an objective of your own may report what it likes as the others.

    Attributes:
        loss: what is minimised.
        intra: sum_c D(gS_c, gT_c); 0 where there are no signals of single classes.
        inter: w D(mean_c gS_c, mean_c gT_c), with the weight w that the objective is given.
        extra: what else an objective of your own has to log, numbers by name; or `None`.
    """

    loss: Float[Array, "*outer_steps"]
    intra: Float[Array, "*outer_steps"]
    inter: Float[Array, "*outer_steps"]
    extra: dict[str, Float[Array, "*outer_steps"]] | None = None


Objective = Callable[[Place, Distance, Weight, Tree, Tree], MatchInfo]


def within(
    place: Place, distance: Distance, inter_weight: Weight, synthetic: Tree, real: Tree
) -> MatchInfo:
    """loss = sum_c D(gS_c, gT_c): each class by itself, the DC baseline (arXiv 2006.05929).

    `inter` is reported and not minimised.  Arguments as `within_and_across`.
    """
    mean = lambda signals: class_mean(signals, place.spread)
    loss = class_sum(jax.vmap(distance)(synthetic, real), place.spread)
    reported = mean(jax.lax.stop_gradient(synthetic))
    return MatchInfo(loss, loss, _times(inter_weight, distance(reported, mean(real))))


def across(
    place: Place, distance: Distance, inter_weight: Weight, synthetic: Tree, real: Tree
) -> MatchInfo:
    """loss = w D(mean_c gS_c, mean_c gT_c): across classes alone.

    Arguments as `within_and_across`.
    """
    mean = lambda signals: class_mean(signals, place.spread)
    loss = _times(inter_weight, distance(mean(synthetic), mean(real)))
    return MatchInfo(loss, jnp.zeros_like(loss), loss)


def within_and_across(
    place: Place, distance: Distance, inter_weight: Weight, synthetic: Tree, real: Tree
) -> MatchInfo:
    """loss = sum_c D(gS_c, gT_c) + w D(mean_c gS_c, mean_c gT_c): multi-level, the paper's.

    Args:
        place: where in a run the outer step stands.
        distance: D, of two signals of one group.
        inter_weight: w.
        synthetic, real: gS and gT, pytrees of arrays `[G, ...]`, a row for each group.
    """
    mean = lambda signals: class_mean(signals, place.spread)
    intra = class_sum(jax.vmap(distance)(synthetic, real), place.spread)
    inter = _times(inter_weight, distance(mean(synthetic), mean(real)))
    return MatchInfo(intra + inter, intra, inter)


def within_then_across(iterations: int, steps: int) -> Objective:
    """`within` at first, then `across`: DCC's warm-up (Lee et al., 2022, arXiv 2202.02916).

    Each class by itself in the first `steps` outer steps of the first `iterations` iterations;
    across classes in all others.  The published program has 250 and 10, and weight 1.
    """

    def objective(place, distance, inter_weight, synthetic, real):
        info = within_and_across(place, distance, inter_weight, synthetic, real)
        early = (place.iteration < iterations) & (place.step < steps)
        return info._replace(loss=jnp.where(early, info.intra, info.inter))

    return objective


def _times(weight: Weight, distance: Float[Array, ""]) -> Float[Array, ""]:
    """Of the distance's type, which that of a swept weight must not change."""
    return jnp.asarray(weight, distance.dtype) * distance
