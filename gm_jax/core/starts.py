"""What the synthetic images start as: `(key, data, ipc) -> images [C, ipc, h, w, channel]`."""

import jax
from jaxtyping import Array, Float, Key

from gm_jax.data.drawing import draw_classes
from gm_jax.data.images import ClassImages


def noise_images(
    key: Key[Array, ""], data: ClassImages, ipc: int
) -> Float[Array, "C ipc h w channel"]:
    """N(0, 1) in normalised pixel space."""
    classes, _, *shape = data.images.shape
    return jax.random.normal(key, (classes, ipc, *shape))


def real_images(
    key: Key[Array, ""], data: ClassImages, ipc: int
) -> Float[Array, "C ipc h w channel"]:
    """Real images drawn without replacement; ipc is at most the smallest class."""
    return draw_classes(key, data, ipc)[0]
