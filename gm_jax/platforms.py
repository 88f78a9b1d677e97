"""What is fastest where: the defaults that depend on the platform, in one place.

None of them changes a result by more than rounding.  docs/performance.md has the measurements.
"""

from typing import NamedTuple

import jax


class Choices(NamedTuple):
    """How work is cut on one platform; `None` means all at once.

    Attributes:
        convolution: a key of `convolution.FORMS`.
        microbatch: images at a time in sums over images.
        class_chunk: classes at a time, in the gradients of each class.
        seed_chunk: seeds at a time, in a run of many.
        network_chunk: networks at a time, in an evaluation.
    """

    convolution: str
    microbatch: int | None
    class_chunk: int | None
    seed_chunk: int | None
    network_chunk: int | None


# On a CPU the cores are busy with one small batch, and what leaves the cache is slow: 8 to 32
# images at a time are within a tenth of each other, 4 or 64 a third slower; two classes, seeds or
# networks at once gain nothing and double the memory.
CPU = Choices("winograd", microbatch=16, class_chunk=1, seed_chunk=1, network_chunk=1)
# Not measured: chosen so that a GPU or TPU is filled by a class of 256 images and memory stays
# within a few GB.  Large batches, and no loops where vmap will do.
ACCELERATOR = Choices("xla", microbatch=None, class_chunk=None, seed_chunk=4, network_chunk=20)

PLATFORMS = {"cpu": CPU, "gpu": ACCELERATOR, "tpu": ACCELERATOR}


def here() -> Choices:
    """The choices for JAX's default backend."""
    return PLATFORMS.get(jax.default_backend(), ACCELERATOR)
