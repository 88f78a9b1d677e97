"""Objectives: the matching loss of all groups' signals, and its parts (arXiv 2208.00311, sec. 3.1).

An objective is `(distance, inter_weight, gS, gT) -> MatchInfo` of two pytrees of signals
`[G, ...]`, of the synthetic and of the real images.  G is the number of classes C, or 1 for mixed
classes.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gm_jax.core.distances import Distance
from gm_jax.core.signals import class_mean

Tree = Any
Weight = Float[Array, ""] | float | int


class MatchInfo(NamedTuple):
    """A matching loss and its parts.

    Attributes:
        loss: what is minimised, a scalar.
        intra: sum_c D(gS_c, gT_c), a scalar; 0 where there are no signals of single classes.
        inter: w * D(mean_c gS_c, mean_c gT_c), a scalar.
    """

    loss: Float[Array, "*outer_steps"]
    intra: Float[Array, "*outer_steps"]
    inter: Float[Array, "*outer_steps"]


Objective = Callable[[Distance, Weight, Tree, Tree], MatchInfo]


def within(distance: Distance, inter_weight: Weight, synthetic: Tree, real: Tree) -> MatchInfo:
    """loss = sum_c D(gS_c, gT_c): each class by itself, the DC baseline (arXiv 2006.05929).

    `inter` is reported and not minimised.
    """
    loss = jnp.sum(jax.vmap(distance)(synthetic, real))
    reported = class_mean(jax.lax.stop_gradient(synthetic))
    return MatchInfo(loss, loss, inter_weight * distance(reported, class_mean(real)))


def across(distance: Distance, inter_weight: Weight, synthetic: Tree, real: Tree) -> MatchInfo:
    """loss = w D(mean_c gS_c, mean_c gT_c): across classes alone."""
    loss = inter_weight * distance(class_mean(synthetic), class_mean(real))
    return MatchInfo(loss, jnp.zeros_like(loss), loss)


def within_and_across(
    distance: Distance, inter_weight: Weight, synthetic: Tree, real: Tree
) -> MatchInfo:
    """loss = sum_c D(gS_c, gT_c) + w D(mean_c gS_c, mean_c gT_c): multi-level, the paper's."""
    # one map over C + 1 signals, the last one their mean: half the code to compile
    distances = jax.vmap(distance)(_with_mean(synthetic), _with_mean(real))
    intra, inter = jnp.sum(distances[:-1]), inter_weight * distances[-1]
    return MatchInfo(intra + inter, intra, inter)


def _with_mean(signals: Tree) -> Tree:
    append = lambda g, mean: jnp.concatenate([g, mean[None]])
    return jax.tree.map(append, signals, class_mean(signals))
