"""Matching losses: the signals of all groups of images in, the loss and its parts out."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gm_jax.core.distances import Distance
from gm_jax.core.signals import class_mean

Tree = Any


class MatchInfo(NamedTuple):
    """The parts of a matching loss.

    Attributes:
        loss: what is minimised, a scalar.
        intra: sum_c D(gS_c, gT_c), a scalar; 0 where there are no signals of single classes.
        inter: C * D(mean_c gS_c, mean_c gT_c), a scalar (C or the inter weight set in its place).
    """

    loss: Float[Array, ""]
    intra: Float[Array, ""]
    inter: Float[Array, ""]


Match = Callable[[Tree, Tree], tuple[Float[Array, ""], MatchInfo]]
"""`(gS, gT) -> (loss, info)`, both pytrees of signals `[C, ...]`; of mixed classes `[1, ...]`."""


def intra(distance: Distance) -> Match:
    """loss = sum_c D(gS_c, gT_c): each class by itself, the DC baseline (arXiv 2006.05929)."""

    def match(synthetic, real):
        loss = intra_distance(distance, synthetic, real)
        apart = inter_distance(distance, jax.lax.stop_gradient(synthetic), real, None)
        return loss, MatchInfo(loss, loss, apart)

    return match


def multi_level(distance: Distance, inter_weight: float | Float[Array, ""] | None = None) -> Match:
    """loss = intra + inter: within each class and across classes (arXiv 2208.00311, sec. 3.1).

    Args:
        distance: D.
        inter_weight: the factor of D(mean_c gS_c, mean_c gT_c); `None` is C, the paper's.
    """

    def match(synthetic, real):
        # one map over C + 1 signals, the last one their mean: half the code to compile
        every = jax.vmap(distance)(_with_mean(synthetic), _with_mean(real))
        weight = len(every) - 1 if inter_weight is None else inter_weight
        within, across = jnp.sum(every[:-1]), weight * every[-1]
        return within + across, MatchInfo(within + across, within, across)

    return match


def _with_mean(signals: Tree) -> Tree:
    append = lambda g, mean: jnp.concatenate([g, mean[None]])
    return jax.tree.map(append, signals, class_mean(signals))


def inter(distance: Distance, weight: float | Float[Array, ""] | None = None) -> Match:
    """loss = weight * D(mean gS, mean gT): across classes alone.

    Args:
        distance: D.
        weight: `None` is the number of signals.
    """

    def match(synthetic, real):
        loss = inter_distance(distance, synthetic, real, weight)
        return loss, MatchInfo(loss, jnp.zeros_like(loss), loss)

    return match


def intra_distance(distance: Distance, synthetic: Tree, real: Tree) -> Float[Array, ""]:
    """sum_c D(gS_c, gT_c)."""
    return jnp.sum(jax.vmap(distance)(synthetic, real))


def inter_distance(
    distance: Distance, synthetic: Tree, real: Tree, weight: float | Float[Array, ""] | None
) -> Float[Array, ""]:
    """weight * D(mean_c gS_c, mean_c gT_c); the weight is C if `None`."""
    classes = len(jax.tree.leaves(real)[0])
    weight = classes if weight is None else weight
    return weight * distance(class_mean(synthetic), class_mean(real))
