"""Schemes: which images form a group, and the objective over the groups' signals."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from gm_jax.core.objectives import Objective, across, within, within_and_across
from gm_jax.data.drawing import draw_classes, draw_mixed
from gm_jax.data.images import ClassImages


class Groups(NamedTuple):
    """Images in G groups: a signal is taken of each.

    Attributes:
        x: normalised images, float `[G, n, height, width, channel]`.
        y: labels, int32 `[G, n]`; -1 marks padding.
    """

    x: Float[Array, "G n h w channel"]
    y: Int[Array, "G n"]


class Scheme(NamedTuple):
    """What an outer step matches (arXiv 2208.00311, sec. 3.1).

    Attributes:
        real: `(key, data) -> groups` of real images, drawn.
        synthetic: `(key, images [C, ipc, h, w, channel]) -> groups`, linear in the images.
        objective: the loss over the groups' signals.
    """

    real: Callable[[Key[Array, ""], ClassImages], Groups]
    synthetic: Callable[[Key[Array, ""], Float[Array, "C ipc h w channel"]], Groups]
    objective: Objective


def intra(batch_real: int = 256) -> Scheme:
    """Each class by itself: the DC baseline (arXiv 2006.05929).

    Args:
        batch_real: real images of a class.
    """
    return Scheme(_real_classes(batch_real), _all_classes, within)


def multi_level(batch_real: int = 256) -> Scheme:
    """Each class by itself and their mean: the paper's.

    Args:
        batch_real: real images of a class.
    """
    return Scheme(_real_classes(batch_real), _all_classes, within_and_across)


def inter(batch_real: int = 1024, batch_synthetic: int = 256) -> Scheme:
    """One batch of mixed classes each, drawn without replacement.

    Args:
        batch_real: real images.
        batch_synthetic: synthetic images; all of them if there are no more.
    """

    def real(key, data):
        x, y = draw_mixed(key, data, batch_real)
        return Groups(x[None], y[None])

    def synthetic(key, images):
        x = images.reshape(-1, *images.shape[2:])
        y = class_labels(images).reshape(-1)
        if len(y) > batch_synthetic:
            drawn = jax.random.permutation(key, len(y))[:batch_synthetic]
            x, y = x[drawn], y[drawn]
        return Groups(x[None], y[None])

    return Scheme(real, synthetic, across)


def class_labels(images: Float[Array, "C ipc h w channel"]) -> Int[Array, "C ipc"]:
    """Label c for every image of row c."""
    classes, ipc = images.shape[:2]
    return jnp.broadcast_to(jnp.arange(classes, dtype=jnp.int32)[:, None], (classes, ipc))


def _real_classes(batch: int) -> Callable[[Key[Array, ""], ClassImages], Groups]:
    return lambda key, data: Groups(*draw_classes(key, data, batch))


def _all_classes(key: Key[Array, ""], images: Float[Array, "C ipc h w channel"]) -> Groups:
    return Groups(images, class_labels(images))
