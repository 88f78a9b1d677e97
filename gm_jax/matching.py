"""Schemes: the signals of all classes in, the loss and its parts out."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gm_jax.distances import Distance
from gm_jax.gradients import class_mean

Tree = Any


class MatchInfo(NamedTuple):
    """The parts of a matching loss.

    Attributes:
        loss: what is minimised, a scalar.
        intra: sum_c D(gS_c, gT_c), a scalar.
        inter: C * D(mean_c gS_c, mean_c gT_c), a scalar (C or the inter weight set in its place).
    """

    loss: Float[Array, ""]
    intra: Float[Array, ""]
    inter: Float[Array, ""]


Match = Callable[[Tree, Tree], tuple[Float[Array, ""], MatchInfo]]
"""`(gS, gT) -> (loss, info)`, both pytrees of per-class signals `[C, ...]`."""


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
        within = intra_distance(distance, synthetic, real)
        across = inter_distance(distance, synthetic, real, inter_weight)
        return within + across, MatchInfo(within + across, within, across)

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
