"""Drawing batches of real images on the device: by key and class alone, without replacement.

The draws are the same however the classes are spread over devices.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, Shaped

from gm_jax.data import spread
from gm_jax.data.host import HostImages, Recorder
from gm_jax.data.images import Batch, ClassImages, normalise


def drawn_flat(
    draw: Callable[..., Array], key: Key[Array, ""], shape: Sequence[int]
) -> Float[Array, "..."]:
    """`draw(key, shape)`, drawn flat: the same numbers.

    A CPU's compiler takes a third of the time or less for them.

    Args:
        draw: `jax.random.normal` or another that draws a number for each place.
        key: as it takes it.
        shape: of the result.
    """
    return draw(key, (math.prod(shape),)).reshape(shape)


def draw_classes(key: Key[Array, ""], data: ClassImages, batch: int) -> Batch:
    """`batch` images of every class at hand, without replacement, normalised.

    Returns:
        images `[C, b, height, width, channel]` and labels `[C, b]`, b = min(batch, N).  A class
        with fewer images gives all of them, and the rest of its row repeats them with label -1:
        padding, which losses leave out.
    """
    classes, most = len(data.counts), data.images.shape[1]
    batch = min(batch, most)

    def draw(key, count, label):
        order = jax.random.uniform(key, (most,)) + (jnp.arange(most) >= count)
        place = jnp.arange(batch)
        chosen = jax.lax.top_k(-order, batch)[1][place % count]
        return chosen, jnp.where(place < count, label, -1)

    labels = spread.labels(data.spread, classes)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, labels)
    chosen, of_batch = jax.vmap(draw)(keys, jnp.asarray(data.counts), labels)
    return Batch(normalise(_take(data.images, labels, chosen), data.mean, data.std), of_batch)


def _take(
    images: Any, labels: Int[Array, " C"], chosen: Int[Array, "C b"]
) -> Shaped[Array, "C b h w channel"]:
    """Of each class those chosen: of images in the host's memory, or on its disk, only those."""
    if isinstance(images, np.ndarray):
        return jnp.stack([row[places] for row, places in zip(images, np.asarray(chosen))])
    if isinstance(images, HostImages | Recorder):
        return images.take(jnp.broadcast_to(labels[:, None], chosen.shape), chosen)
    return jax.vmap(lambda row, places: row[places])(images, chosen)


def draw_mixed(key: Key[Array, ""], data: ClassImages, batch: int) -> Batch:
    """`batch` images of the whole set, without replacement, normalised; b = min(batch, C * N).

    Where there are fewer images than that, the rest repeats them with label -1: padding.  Every
    device that has a share of the classes gets all images.
    """
    counts = spread.gather(data.spread, jnp.asarray(data.counts))
    classes, most = len(counts), data.images.shape[1]
    absent = jnp.arange(most)[None] >= counts[:, None]
    order = drawn_flat(jax.random.uniform, key, (classes, most)) + absent
    chosen = jax.lax.top_k(-order.reshape(-1), min(batch, classes * most))[1]
    label, index = chosen // most, chosen % most
    labels = jnp.where(index < counts[label], label, -1).astype(jnp.int32)
    index = index % counts[label]
    images: Any = data.images
    if isinstance(images, HostImages | Recorder):
        images = images.take(label, index)
    else:
        images = spread.choose(data.spread, images, label, index)
    return Batch(normalise(images, data.mean, data.std), labels)
