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


def intra(batch_real: int = 256, batch_synthetic: int | None = None) -> Scheme:
    """Each class by itself: the DC baseline (arXiv 2006.05929).

    Args:
        batch_real: real images of a class.
        batch_synthetic: synthetic images of a class, drawn at each step; `None` takes all.
    """
    return Scheme(_real_classes(batch_real), _synthetic_classes(batch_synthetic), within)


def multi_level(batch_real: int = 256, batch_synthetic: int | None = None) -> Scheme:
    """Each class by itself and their mean: the paper's.

    Args:
        batch_real: real images of a class.
        batch_synthetic: synthetic images of a class, drawn at each step; `None` takes all.
    """
    return Scheme(_real_classes(batch_real), _synthetic_classes(batch_synthetic), within_and_across)


def warm_up(
    batch_real: int = 256,
    batch_synthetic: int | None = None,
    iterations: int = 250,
    steps: int = 10,
) -> Scheme:
    """Each class by itself at first, their mean later: DCC's (arXiv 2202.02916).

    Args:
        batch_real: real images of a class.
        batch_synthetic: synthetic images of a class, drawn at each step; `None` takes all.
        iterations, steps: of the warm-up; see `objectives.within_then_across`.
    """
    objective = within_then_across(iterations, steps)
    return Scheme(_real_classes(batch_real), _synthetic_classes(batch_synthetic), objective)


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


def _real_classes(batch: int) -> Callable[[Key[Array, ""], ClassImages], Batch]:
    return lambda key, data: draw_classes(key, data, batch)


def _synthetic_classes(batch: int | None) -> Callable:
    """All images of each class, or the same drawn places of every class."""

    def choose(key, images):
        if batch is not None and images.shape[1] > batch:
            images = images[:, jax.random.permutation(key, images.shape[1])[:batch]]
        return Batch(images, class_labels(images))

    return choose
