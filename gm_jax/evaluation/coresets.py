"""Coresets: a few real images of each class, the rivals of a condensed set.

Herding and k-center choose by the images' *features*: what a trained network's last dense layer
sees (Zhao et al., 2021, arXiv 2006.05929, sec. 3.1).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from gm_jax.data.drawing import draw_classes
from gm_jax.data.images import ClassImages, normalise

Chooser = Callable[[Float[Array, "N d"], Bool[Array, " N"], int], Int[Array, " k"]]
"""`(features, present, k) -> k indices` of one class; once all present images are selected, any."""

Set = tuple[Float[Array, "n h w c"], Int[Array, " n"]]
"""Images, normalised, class after class; and their labels, -1 for padding."""


def random_real(key: Key[Array, ""], data: ClassImages, ipc: int) -> Set:
    """`ipc` random real images a class, the least that a condensed set must beat.

    A class with fewer than `ipc` images gives them all, and repeats of them labelled -1, which
    do not count in a loss but do in BatchNorm's statistics.
    """
    x, y = draw_classes(key, data, ipc)
    drawn = y.shape[1]
    place = jnp.arange(ipc)
    x, y = x[:, place % drawn], jnp.where((place < drawn)[None], y[:, place % drawn], -1)
    return x.reshape(-1, *x.shape[2:]), y.reshape(-1)


def full_set(data: ClassImages) -> Set:
    """All real images, class after class: what no set of few images is expected to beat."""
    images, counts = np.asarray(data.images), np.asarray(data.counts)
    rows = np.concatenate([row[:count] for row, count in zip(images, counts)])
    labels = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    return normalise(jnp.asarray(rows), data.mean, data.std), jnp.asarray(labels)


def select_real(
    chooser: Chooser, features_of: Callable, data: ClassImages, ipc: int, batch: int = 256
) -> Set:
    """The `ipc` real images of each class that `chooser` selects.

    A class with fewer than `ipc` images gives them all, and more of its row labelled -1.

    Args:
        chooser: `herding` or `k_center`.
        features_of: `x [n, h, w, c] -> [n, d]`.
        data: the real images; ipc is at most the largest class.
        ipc: images a class.
        batch: images at a time through `features_of`.
    """
    classes, most = data.images.shape[:2]

    def of_class(label, images, count):
        featured = lambda image: features_of(normalise(image[None], data.mean, data.std))[0]
        features = jax.lax.map(featured, images, batch_size=min(batch, most))
        chosen = chooser(features, jnp.arange(most) < count, ipc)
        x = normalise(images[chosen], data.mean, data.std)
        return x, jnp.where(jnp.arange(ipc) < count, label, -1)

    labels = jnp.arange(classes, dtype=jnp.int32)
    x, y = jax.lax.map(lambda row: of_class(*row), (labels, data.images, data.counts))
    return x.reshape(-1, *x.shape[2:]), y.reshape(-1)


def herding(features: Float[Array, "N d"], present: Bool[Array, " N"], k: int) -> Int[Array, " k"]:
    """One after another, the image that brings the mean of those selected closest to the class's.

    i_t = argmin_i || mu - (f_i + sum_(s < t) f_(i_s)) / t ||      (Welling 2009)
    """
    mean = jnp.sum(features * present[:, None], 0) / jnp.maximum(jnp.sum(present), 1)

    def pick(carry, t):
        total, free = carry
        gap = mean[None] - (features + total[None]) / t
        best = jnp.argmin(jnp.where(free, jnp.sum(gap**2, 1), jnp.inf))
        return (total + features[best], free.at[best].set(False)), best

    start = (jnp.zeros_like(mean), present)
    return jax.lax.scan(pick, start, jnp.arange(1.0, k + 1))[1]


def k_center(features: Float[Array, "N d"], present: Bool[Array, " N"], k: int) -> Int[Array, " k"]:
    """The image nearest the class's mean, then repeatedly the one farthest from all selected ones.

    i_t = argmax_i min_(s < t) || f_i - f_(i_s) ||      (greedy k-center, Sener & Savarese 2018)
    """
    mean = jnp.sum(features * present[:, None], 0) / jnp.maximum(jnp.sum(present), 1)
    away = lambda point: jnp.sum((features - point[None]) ** 2, 1)

    def pick(nearest, _):
        best = jnp.argmax(jnp.where(present, nearest, -1))
        return jnp.minimum(nearest, away(features[best])), best

    first = jnp.argmin(jnp.where(present, away(mean), jnp.inf))
    rest = jax.lax.scan(pick, away(features[first]), None, length=k - 1)[1]
    return jnp.concatenate([first[None], rest])
