"""Augmentation for evaluation on handwritten digits, on the device and by key."""

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Float, Key


def crop_scale_rotate(
    key: Key[Array, ""], images: Float[Array, "n h w c"]
) -> Float[Array, "n h w c"]:
    """Each image, by equal chance, one of: cropped, scaled, rotated (the protocol for MNIST).

    A crop shifts by -4..4 whole pixels on either axis; a scale is 0.8..1.2, each axis by itself;
    a rotation is within 45 degrees.  All three are one affine map of the output's coordinates
    about the centre, sampled bilinearly; outside lies the images' mean, channel by channel.
    """
    fill = jnp.mean(images, (0, 1, 2))
    keys = jax.random.split(key, len(images))
    moved = jax.vmap(lambda k, image: _resample(image, *_random_affine(k)))(
        keys, images - fill[None, None, None]
    )
    return moved + fill[None, None, None]


def _random_affine(key: Key[Array, ""]) -> tuple[Float[Array, "2 2"], Float[Array, " 2"]]:
    """(matrix, shift) from output to input coordinates, both relative to the centre."""
    which, crop_key, scale_key, angle_key = jax.random.split(key, 4)
    shift = jax.random.randint(crop_key, (2,), -4, 5).astype(float)
    scale = jax.random.uniform(scale_key, (2,), minval=0.8, maxval=1.2)
    angle = jnp.deg2rad(jax.random.uniform(angle_key, (), minval=-45.0, maxval=45.0))
    sin, cos = jnp.sin(angle), jnp.cos(angle)
    rotation = jnp.stack([jnp.stack([cos, sin]), jnp.stack([-sin, cos])])
    matrices = jnp.stack([jnp.eye(2), jnp.diag(1 / scale), rotation])
    choice = jax.random.randint(which, (), 0, 3)
    return matrices[choice], jnp.where(choice == 0, shift, 0.0)


def _resample(
    image: Float[Array, "h w c"], matrix: Float[Array, "2 2"], shift: Float[Array, " 2"]
) -> Float[Array, "h w c"]:
    """image[matrix @ (i, j) + shift], bilinear, zero outside."""
    h, w = image.shape[:2]
    centre = jnp.array([(h - 1) / 2, (w - 1) / 2])
    grid = jnp.stack(jnp.meshgrid(jnp.arange(h), jnp.arange(w), indexing="ij"), -1)
    turned = jnp.matmul(grid - centre[None, None], matrix.T, precision=jax.lax.Precision.HIGHEST)
    source = turned + (shift + centre)[None, None]
    coordinates = [source[..., 0], source[..., 1]]
    sample = lambda channel: map_coordinates(channel, coordinates, order=1, mode="constant")
    return jax.vmap(sample, in_axes=-1, out_axes=-1)(image)
