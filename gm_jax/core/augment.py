"""Random changes of images that gradients pass through: of DSA, of IDC, and cutmix.

An *operation* is one equation of one image `[h, w, channel]` and explicit parameters; drawing the
parameters is another function.  A *plan* says which operations follow each other; `siamese` and
`per_image` make it a function `(key, images) -> images`:

    augment = siamese(dsa("color_crop_cutout_flip_scale_rotate"))      # of a class, for matching
    real, synthetic = augment(key, real), augment(key, synthetic)      # both the same change

Images are normalised ones: what comes from outside an image is 0, the data's mean.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from gm_jax.data.images import Batch, Labels
from gm_jax.errors import UserError

Augment = Callable[[Key[Array, ""], Float[Array, "n h w channel"]], Float[Array, "n h w channel"]]
"""`(key, images) -> images`, the same change for the same key."""

TrainingAugment = Callable[[Key[Array, ""], Batch], Batch]
"""`(key, batch) -> batch`, a random change of what a network trains on, labels included."""

Image = Float[Array, "h w channel"]
Number = Float[Array, ""]
Whole = Int[Array, ""]

# --- operations: one image, explicit parameters (arXiv 2102.08259) --------------------------------


def brightness(x: Image, u: Number) -> Image:
    """x + (u - 1/2), u in [0, 1)."""
    return x + (u - 0.5)


def saturation(x: Image, u: Number) -> Image:
    """m + 2 u (x - m), m each pixel's mean over its channels, u in [0, 1); of one channel, x."""
    m = jnp.mean(x, -1, keepdims=True)
    return (x - m) * (2 * u) + m


def contrast(x: Image, u: Number) -> Image:
    """m + (u + 1/2) (x - m), m the image's mean, through which the gradient passes; u in [0, 1)."""
    m = jnp.mean(x)
    return (x - m) * (u + 0.5) + m


def color(x: Image, brightness_u: Number, saturation_u: Number, contrast_u: Number) -> Image:
    """Brightness, then saturation, then contrast."""
    return contrast(saturation(brightness(x, brightness_u), saturation_u), contrast_u)


def crop(x: Image, rows: Whole, cols: Whole) -> Image:
    """out[i, j] = x[i + rows, j + cols], 0 outside; each within size / 8, rounded, either way."""
    h, w, _ = x.shape
    r, c = _reach(h), _reach(w)
    padded = jnp.pad(x, ((r, r), (c, c), (0, 0)))
    return jax.lax.dynamic_slice(padded, (rows + r, cols + c, 0), x.shape)


def cutout(x: Image, rows: Whole, cols: Whole) -> Image:
    """0 in a box of half the height and width, rounded up, about pixel (rows, cols).

    A box of k rows begins at rows - floor(k/2), and may hang over the border; rows and cols are 0
    to the size, or to the size - 1 where k is odd.
    """
    h, w, _ = x.shape
    high, wide = _half(h), _half(w)
    top, left = rows - high // 2, cols - wide // 2
    return jnp.where(_box(h, w, (top, top + high), (left, left + wide)), 0, x)


def flip(x: Image, flipped: Bool[Array, ""]) -> Image:
    """Left and right exchanged, if `flipped`."""
    return jnp.where(flipped, x[:, ::-1], x)


def scale(x: Image, sx: Number, sy: Number) -> Image:
    """Pixel (i, j), counted from the centre, reads (sy i, sx j): s > 1 makes the picture smaller.

    Bilinear, each of the four neighbours 0 outside.  It is separable: out = A x B^T with the
    matrix A[i, k] = hat(sy i - k), B likewise, and hat(t) = max(0, 1 - |t|).
    """

    def matrix(size, s):
        i = _from_centre(size)
        return _hat(s * i[:, None] - i[None])

    a, b = matrix(x.shape[0], sy), matrix(x.shape[1], sx)
    return jnp.einsum("ik,jl,klc->ijc", a, b, x, precision=jax.lax.Precision.HIGHEST)


def rotate(x: Image, angle: Number) -> Image:
    """Pixel (i, j), counted from the centre, reads (cos i + sin j, cos j - sin i); in radians.

    Bilinear, each of the four neighbours 0 outside.
    """
    h, w, _ = x.shape
    i, j = _from_centre(h)[:, None], _from_centre(w)[None]
    row = jnp.cos(angle) * i + jnp.sin(angle) * j + (h - 1) / 2
    col = jnp.cos(angle) * j - jnp.sin(angle) * i + (w - 1) / 2

    def neighbour(below, right):
        k, l = jnp.floor(row) + below, jnp.floor(col) + right
        inside = (k >= 0) & (k < h) & (l >= 0) & (l < w)
        weight = jnp.where(inside, _hat(row - k) * _hat(col - l), 0)
        pixels = x[jnp.clip(k, 0, h - 1).astype(int), jnp.clip(l, 0, w - 1).astype(int)]
        return weight[..., None] * pixels

    return jnp.sum(jax.vmap(neighbour)(jnp.array([0, 0, 1, 1]), jnp.array([0, 1, 0, 1])), 0)


def _reach(size: int) -> int:
    return (size + 4) // 8


def _half(size: int) -> int:
    return (size + 1) // 2


def _from_centre(size: int) -> Float[Array, " size"]:
    return jnp.arange(size) - (size - 1) / 2


def _hat(t: Float[Array, "..."]) -> Float[Array, "..."]:
    return jnp.maximum(0, 1 - jnp.abs(t))


def _box(
    h: int, w: int, rows: tuple[Whole, Whole], cols: tuple[Whole, Whole]
) -> Bool[Array, "h w 1"]:
    """The pixels from rows[0] to below rows[1], as far as there are any, and columns likewise."""
    i, j = jnp.arange(h), jnp.arange(w)
    row, col = (i >= rows[0]) & (i < rows[1]), (j >= cols[0]) & (j < cols[1])
    return (row[:, None] & col[None])[..., None]


# --- drawing --------------------------------------------------------------------------------------


NUMBERS = 3
"""Uniform numbers that an operation is given to make its parameters of."""


class Operation(NamedTuple):
    """An operation and the law of its parameters.

    Attributes:
        law: `(u [NUMBERS], height, width) -> parameters`, a tuple of scalars, of independent
            numbers u that are uniform in [0, 1).
        apply: `(x [h, w, channel], *parameters) -> [h, w, channel]`.
        channels: with fewer of them it would do nothing, and is refused.
    """

    law: Callable[[Float[Array, " numbers"], int, int], tuple[Array, ...]]
    apply: Callable[..., Image]
    channels: int = 1


def _uniform(count: int, low: float = 0.0, high: float = 1.0) -> Callable:
    return lambda u, h, w: tuple(low + (high - low) * u[:count])


def _pixel(bounds: Callable[[int], tuple[int, int]]) -> Callable:
    """A row and a column, each from the lower to below the upper bound of its size."""
    return lambda u, h, w: tuple(_whole(u[k], *bounds(size)) for k, size in enumerate((h, w)))


def _coin(u: Float[Array, " numbers"], h: int, w: int) -> tuple[Bool[Array, ""]]:
    return (u[0] < 0.5,)


def _whole(u: Number, low: int, high: int) -> Whole:
    """The whole number from low to below high that u stands for, each with equal chance."""
    return low + jnp.floor(u * (high - low)).astype(int)


OPERATIONS = {
    "color": Operation(_uniform(3), color),
    "crop": Operation(_pixel(lambda size: (-_reach(size), _reach(size) + 1)), crop),
    "cutout": Operation(_pixel(lambda size: (0, size + 1 - _half(size) % 2)), cutout),
    "flip": Operation(_coin, flip),
    "scale": Operation(_uniform(2, 1 / 1.2, 1.2), scale),
    "rotate": Operation(_uniform(1, -jnp.pi / 12, jnp.pi / 12), rotate),
    "brightness": Operation(_uniform(1), brightness),
    "saturation": Operation(_uniform(1), saturation, channels=2),
    "contrast": Operation(_uniform(1), contrast),
}
"""By their names in a strategy.  The last three are one part each of `color`."""

# --- strategies -----------------------------------------------------------------------------------

Plan = tuple[tuple[Operation, ...], ...]
"""Stages that follow each other; of each, one operation is drawn, every one with equal chance."""


def strategy_names(strategy: str) -> tuple[str, ...]:
    """The operations that a published strategy names.

    Examples:
        >>> strategy_names("color_crop_cutout")
        ('color', 'crop', 'cutout')

    Args:
        strategy: names joined by `_`, each once; "" or "none" names no operation.

    Raises:
        UserError: a name is unknown, or comes twice.
    """
    names = () if strategy.lower() in ("", "none") else tuple(strategy.split("_"))
    for place, name in enumerate(names):
        if name not in OPERATIONS:
            allowed = ", ".join(OPERATIONS)
            raise UserError(f"strategy {strategy!r}: unknown {name!r}; it may name {allowed}")
        if name in names[:place]:
            raise UserError(f"strategy {strategy!r}: {name!r} comes twice; name it once")
    return names


def dsa(strategy: str) -> Plan:
    """One operation of the strategy a call, each with equal chance (arXiv 2102.08259).

    Raises:
        UserError: as `strategy_names`.
    """
    return _plan([strategy_names(strategy)])


def idc(strategy: str) -> Plan:
    """Flip, colour, one of crop, scale and rotate, then cutout, if named (arXiv 2205.14959).

    Raises:
        UserError: as `strategy_names`.
    """
    names = strategy_names(strategy)
    stages = "flip", "color", "brightness", "saturation", "contrast", "crop scale rotate", "cutout"
    return _plan([tuple(n for n in stage.split() if n in names) for stage in stages])


def _plan(stages: list[tuple[str, ...]]) -> Plan:
    return tuple(tuple(OPERATIONS[name] for name in stage) for stage in stages if stage)


# --- of a batch -----------------------------------------------------------------------------------


def siamese(plan: Plan) -> Augment:
    """The same operations with the same parameters for all images of a call.

    What is drawn depends on the key and the size of the images, not on how many there are: batches
    that are given one key are changed alike.

    A choice under `vmap` computes every operation of a stage: give classes a key each by `lax.map`
    (`batching.chunked` with chunk 1).

    Raises:
        UserError: from the call, where the plan has `saturation` and the images one channel.
            `color` is allowed, since brightness and contrast are not the identity there.
    """

    def shared(operation, u, x):
        parameters = operation.law(u[0], *x.shape[1:3])
        return jax.vmap(lambda image: operation.apply(image, *parameters))(x)

    return _augment(plan, shared, lambda x: 1)


def per_image(plan: Plan) -> Augment:
    """The same operations for all images of a call, with parameters that each draws for itself.

    What is drawn depends on the number of images too.

    Raises:
        UserError: as `siamese`.
    """

    def each(operation, u, x):
        parameters = jax.vmap(lambda u: operation.law(u, *x.shape[1:3]))(u)
        return jax.vmap(operation.apply)(x, *parameters)

    return _augment(plan, each, len)


def _augment(plan: Plan, of_batch: Callable, draws: Callable[[Array], int]) -> Augment:
    """Stage after stage, `of_batch(operation, u [draws(x), NUMBERS], x)` of the one that is chosen.

    All numbers of a call are drawn at once: a generator for each parameter takes long to compile
    (docs/performance_notes.md).
    """

    def branch(operation):
        return lambda u, x: of_batch(operation, u, x).astype(x.dtype)

    def augment(key, x):
        for operation in (operation for stage in plan for operation in stage):
            if x.shape[-1] < operation.channels:
                name = operation.apply.__name__
                raise UserError(f"{name} does nothing to images of one channel: leave it out")
        drawn = jax.random.uniform(key, (len(plan), 1 + draws(x) * NUMBERS))
        for of_stage, stage in zip(drawn, plan):
            choice = _whole(of_stage[0], 0, len(stage))
            u = of_stage[1:].reshape(-1, NUMBERS)
            x = jax.lax.switch(choice, [branch(operation) for operation in stage], u, x)
        return x

    return augment


def for_training(augment: Augment) -> TrainingAugment:
    """The change of images as one of batches, which leaves the labels as they are."""
    return lambda key, batch: batch._replace(x=augment(key, batch.x))


# --- cutmix ---------------------------------------------------------------------------------------


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
    mask = cutmix_box(lam, _whole(row, 0, h), _whole(col, 0, w), h, w) & (happens < probability)
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

    return _box(h, w, span(row_centre, h), span(col_centre, w))
