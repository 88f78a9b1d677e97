"""Schemes: which images form a group, and the objective over the groups' signals."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from gm_jax.core.objectives import (
    Objective,
    across,
    within,
    within_and_across,
    within_then_across,
)
from gm_jax.data.drawing import draw_classes, draw_mixed
from gm_jax.data.images import Batch, ClassImages


class Scheme(NamedTuple):
    """What an outer step matches (arXiv 2208.00311, sec. 3.1).

    Attributes:
        real: `(key, data) -> groups` of real images, drawn.
        synthetic: `(key, images [C, n, h, w, channel]) -> groups` of the
            decoded images, linear in them.
        objective: the loss over the groups' signals.
    """

    real: Callable[[Key[Array, ""], ClassImages], Batch]
    synthetic: Callable[[Key[Array, ""], Float[Array, "C ipc h w channel"]], Batch]
    objective: Objective


def of_classes(
    objective: Objective, batch_real: int = 256, batch_synthetic: int | None = None
) -> Scheme:
    """A group for each class.

    Args:
        objective: the loss over their signals.
        batch_real: real images of a class, drawn without replacement.
        batch_synthetic: synthetic images of a class, at each step the same drawn places of every
            class; `None` takes all.
    """

    def real(key, data):
        return draw_classes(key, data, batch_real)

    def synthetic(key, images):
        if batch_synthetic is not None and images.shape[1] > batch_synthetic:
            images = images[:, jax.random.permutation(key, images.shape[1])[:batch_synthetic]]
        return Batch(images, class_labels(images))

    return Scheme(real, synthetic, objective)


def intra(batch_real: int = 256, batch_synthetic: int | None = None) -> Scheme:
    """Each class by itself: the DC baseline (arXiv 2006.05929).  Arguments as `of_classes`."""
    return of_classes(within, batch_real, batch_synthetic)


def multi_level(batch_real: int = 256, batch_synthetic: int | None = None) -> Scheme:
    """Each class by itself and their mean: the paper's.  Arguments as `of_classes`."""
    return of_classes(within_and_across, batch_real, batch_synthetic)


def warm_up(batch_real: int = 256, batch_synthetic: int | None = None) -> Scheme:
    """Each class by itself at first, their mean later: DCC's (arXiv 2202.02916).

    For the first 10 outer steps of the first 250 iterations, as in the published program; of
    others, `of_classes` with `objectives.within_then_across`.  Arguments as `of_classes`.
    """
    return of_classes(within_then_across(250, 10), batch_real, batch_synthetic)


def inter(batch_real: int = 1024, batch_synthetic: int = 256) -> Scheme:
    """One batch of mixed classes each, drawn without replacement.

    Args:
        batch_real: real images.
        batch_synthetic: synthetic images; all of them if there are no more.
    """

    def real(key, data):
        x, y = draw_mixed(key, data, batch_real)
        return Batch(x[None], y[None])

    def synthetic(key, images):
        x, y = all_images(images)
        if len(y) > batch_synthetic:
            drawn = jax.random.permutation(key, len(y))[:batch_synthetic]
            x, y = x[drawn], y[drawn]
        return Batch(x[None], y[None])

    return Scheme(real, synthetic, across)


def class_labels(images: Float[Array, "C ipc h w channel"]) -> Int[Array, "C ipc"]:
    """Label c for every image of row c."""
    classes, ipc = images.shape[:2]
    return jnp.broadcast_to(jnp.arange(classes, dtype=jnp.int32)[:, None], (classes, ipc))


def all_images(images: Float[Array, "C n h w channel"]) -> Batch:
    """The images of all classes in a row, and their labels."""
    return Batch(images.reshape(-1, *images.shape[2:]), class_labels(images).reshape(-1))
