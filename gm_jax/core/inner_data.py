"""Inner data: what the network trains on between two outer steps.

An inner epoch is one pass over `(key, data, images) -> batch`, called with a key of its own.
"""

from collections.abc import Callable

from jaxtyping import Array, Float, Key

from gm_jax.core.schemes import all_images
from gm_jax.data.drawing import draw_mixed
from gm_jax.data.images import Batch, ClassImages

InnerData = Callable[[Key[Array, ""], ClassImages, Float[Array, "C n h w channel"]], Batch]


def synthetic(
    key: Key[Array, ""], data: ClassImages, images: Float[Array, "C n h w channel"]
) -> Batch:
    """All synthetic images, decoded: the paper's, and DC's (arXiv 2006.05929)."""
    return all_images(images)


def real(count: int) -> InnerData:
    """`count` real images of mixed classes, drawn without replacement: IDC's (arXiv 2205.14959).

    At most as many as there are: the padding of `draw_mixed` would be trained on by BatchNorm, and
    batches of nothing else by weight decay.
    """
    return lambda key, data, images: draw_mixed(key, data, count)
