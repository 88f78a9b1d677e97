"""Cutmix: a box of each image is replaced by that of another, and their labels are mixed."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from gm_jax.core.augment import TrainingAugment
from gm_jax.core.operations import Number, Whole, box, whole
from gm_jax.data.images import Batch, Labels


class Mixed(NamedTuple):
    """Images that each have a box of a partner's pixels (arXiv 1905.04899).

    The loss is `ratio * CE(logits, y) + (1 - ratio) * CE(logits, partner_y)`.

    Attributes:
        x: the images, float `[n, h, w, channel]`.
        y: their labels, as they were given.
        partner_y: the labels of their partners.
        ratio: the share of the pixels outside the box, a scalar.
    """

    x: Float[Array, "n h w channel"]
    y: Labels
    partner_y: Labels
    ratio: Number

    def distribution(self, classes: int) -> Float[Array, "n classes"]:
        """The labels y [n] as distributions, of which the cross-entropy is the same loss."""
        partner_y = jnp.where(self.partner_y < 0, self.y, self.partner_y)  # a padding's pixels
        y, partner = (jax.nn.one_hot(y, classes) for y in (self.y, partner_y))
        there = (self.y >= 0)[:, None]
        return jnp.where(there, self.ratio * y + (1 - self.ratio) * partner, 0)


def cutmix(
    key: Key[Array, ""],
    x: Float[Array, "n h w channel"],
    y: Labels,
    probability: float = 0.5,
) -> Mixed:
    """With a probability, a box of each image is replaced by that of another (arXiv 1905.04899).

    As in IDC (arXiv 2205.14959): lam is uniform in [0, 1), the centre uniform among the pixels, the
    partners a uniform permutation in which an image may be its own; all one draw for the batch.
    Otherwise the images stay as they are, and the ratio is 1.

    Args:
        key: of the draws.
        x: images that are already augmented.
        y: a label each.
        probability: 0 to 1.
    """
    n, h, w, _ = x.shape
    numbers, order = jax.random.split(key)
    happens, lam, row, col = jax.random.uniform(numbers, (4,))
    mask = cutmix_box(lam, whole(row, 0, h), whole(col, 0, w), h, w) & (happens < probability)
    partner = jax.random.permutation(order, n)
    ratio = 1 - jnp.mean(mask.astype(x.dtype))
    return Mixed(jnp.where(mask[None], x[partner], x), y, y[partner], ratio)


def then_cutmix(augment: TrainingAugment, classes: int, probability: float) -> TrainingAugment:
    """`augment`, then cutmix with a probability: the labels become distributions over classes."""

    def change(key, batch):
        augment_key, cutmix_key = jax.random.split(key)
        mixed = cutmix(cutmix_key, *augment(augment_key, batch), probability)
        return Batch(mixed.x, mixed.distribution(classes))

    return change


def cutmix_box(
    lam: Number, row_centre: Whole, col_centre: Whole, h: int, w: int
) -> Bool[Array, "h w 1"]:
    """The box's pixels: from row_centre - a // 2 to below row_centre + a // 2, columns likewise.

    a = floor(h sqrt(1 - lam)) for the rows and floor(w sqrt(1 - lam)) for the columns.  Since the
    box is rounded, and ends at the border, its share of the pixels is not quite 1 - lam.
    """

    def span(centre, size):
        half = jnp.floor(size * jnp.sqrt(1 - lam)).astype(int) // 2
        return centre - half, centre + half

    return box(h, w, span(row_centre, h), span(col_centre, w))
