"""Drawing batches of real images on the device: by key alone, without replacement."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from gm_jax.data.images import Batch, ClassImages, normalise


def draw_classes(key: Key[Array, ""], data: ClassImages, batch: int) -> Batch:
    """`batch` images of every class, without replacement, normalised.

    Returns:
        images `[C, b, height, width, channel]` and labels `[C, b]`, b = min(batch, N).  A class
        with fewer images gives all of them, and the rest of its row repeats them with label -1:
        padding, which losses leave out.
    """
    classes, most = data.images.shape[:2]
    batch = min(batch, most)

    def draw(key, images, count, label):
        order = jax.random.uniform(key, (most,)) + (jnp.arange(most) >= count)
        place = jnp.arange(batch)
        chosen = jax.lax.top_k(-order, batch)[1][place % count]
        return images[chosen], jnp.where(place < count, label, -1)

    labels = jnp.arange(classes, dtype=jnp.int32)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, labels)
    images, labels = jax.vmap(draw)(keys, data.images, data.counts, labels)
    return Batch(normalise(images, data.mean, data.std), labels)


def draw_mixed(key: Key[Array, ""], data: ClassImages, batch: int) -> Batch:
    """`batch` images of the whole set, without replacement, normalised; b = min(batch, C * N).

    Where there are fewer images than that, the rest is padding, labelled -1.
    """
    classes, most = data.images.shape[:2]
    absent = jnp.arange(most)[None] >= data.counts[:, None]
    order = jax.random.uniform(key, (classes, most)) + absent
    chosen = jax.lax.top_k(-order.reshape(-1), min(batch, classes * most))[1]
    label, index = chosen // most, chosen % most
    labels = jnp.where(index < data.counts[label], label, -1).astype(jnp.int32)
    return Batch(normalise(data.images[label, index], data.mean, data.std), labels)
