"""Schemes: which images are matched with which, and by what loss (arXiv 2208.00311, sec. 3.1)."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from gm_jax.core import objectives
from gm_jax.core.distances import Distance
from gm_jax.core.objectives import Match
from gm_jax.data.images import ClassImages, draw_classes, draw_mixed

Groups = tuple[Float[Array, "G n h w channel"], Int[Array, "G n"]]
"""Images and labels in G groups: a signal is taken of each.  Label -1 marks padding."""


class Scheme(NamedTuple):
    """What an outer step matches.

    Attributes:
        real: `(key, data) -> groups`, real images drawn.
        synthetic: `(key, images [C, ipc, h, w, channel]) -> groups`, their images linear in those
            that are learned.
        match: `(gS, gT) -> (loss, info)`, of the groups' signals `[G, ...]`.
    """

    real: Callable[[Key[Array, ""], ClassImages], Groups]
    synthetic: Callable[[Key[Array, ""], Float[Array, "C ipc h w channel"]], Groups]
    match: Match


def intra(distance: Distance, batch_real: int = 256) -> Scheme:
    """sum_c D(gS_c, gT_c): each class by itself, the DC baseline (arXiv 2006.05929).

    Args:
        distance: D.
        batch_real: real images of a class.
    """
    return Scheme(_real_classes(batch_real), _all_classes, objectives.intra(distance))


def multi_level(
    distance: Distance,
    batch_real: int = 256,
    weight: float | Float[Array, ""] | None = None,
) -> Scheme:
    """intra + weight * D(mean_c gS_c, mean_c gT_c): the paper's.

    Args:
        distance: D.
        batch_real: real images of a class.
        weight: of the second part; `None` is C, the paper's.
    """
    match = objectives.multi_level(distance, weight)
    return Scheme(_real_classes(batch_real), _all_classes, match)


def inter(
    distance: Distance,
    weight: float | Float[Array, ""],
    batch_real: int = 1024,
    batch_synthetic: int = 256,
) -> Scheme:
    """weight * D(gS, gT) of a batch of mixed classes each, drawn without replacement.

    Args:
        distance: D.
        weight: C in the paper.
        batch_real: real images.
        batch_synthetic: synthetic images; all of them if there are no more.
    """

    def real(key, data):
        x, y = draw_mixed(key, data, batch_real)
        return x[None], y[None]

    def synthetic(key, images):
        x = images.reshape(-1, *images.shape[2:])
        y = class_labels(images).reshape(-1)
        if len(y) > batch_synthetic:
            chosen = jax.random.permutation(key, len(y))[:batch_synthetic]
            x, y = x[chosen], y[chosen]
        return x[None], y[None]

    return Scheme(real, synthetic, objectives.inter(distance, weight))


def class_labels(images: Float[Array, "C ipc h w channel"]) -> Int[Array, "C ipc"]:
    """Label c for every image of row c."""
    classes, ipc = images.shape[:2]
    return jnp.broadcast_to(jnp.arange(classes, dtype=jnp.int32)[:, None], (classes, ipc))


def _real_classes(batch: int) -> Callable[[Key[Array, ""], ClassImages], Groups]:
    return lambda key, data: draw_classes(key, data, batch)


def _all_classes(key: Key[Array, ""], images: Float[Array, "C ipc h w channel"]) -> Groups:
    return images, class_labels(images)
