"""What is fastest where: the defaults that depend on the platform, in one place.

None of them changes a result by more than rounding.  docs/performance.md has the measurements.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jaxlib


class Defaults(NamedTuple):
    """How work is cut on one platform; `None` means all at once.

    Attributes:
        convolution: a key of `convolution.FORMS`.
        microbatch: images at a time in means over images.
        class_chunk: classes at a time in the gradients of each class.
        set_chunk: sets at a time, in a run of many.
        network_chunk: networks at a time, in an evaluation.
        microbatches: `microbatch` for networks that need another, by their names.
    """

    convolution: str
    microbatch: int | None
    class_chunk: int | None
    set_chunk: int | None
    network_chunk: int | None
    microbatches: Mapping[str, int | None] = MappingProxyType({})

    def microbatch_of(self, network: str) -> int | None:
        """Images at a time in means over images, for a network of this name."""
        return self.microbatches.get(network, self.microbatch)


# On a CPU the cores are busy with one small batch, and what leaves the cache is slow: in
# microbatches of 20 images ConvNet's gradients take 0.98 of their time in 16, an epoch of 100,
# which 20 divides, 0.90, and ResNet18's 0.91; of 32 images ConvNet's take 1.08 and 1.05.  Classes
# at once were slower unless all fit in a microbatch, seeds and networks too: an iteration of 16
# seeds took 0.61 s a seed one after another, 0.80 s by fours, 0.87 s all at once
# (experiments/benchmarks/chunks.py).  VGG11 has 30 times ConvNet's parameters, whose gradient is
# added up after each microbatch, and its images leave less behind: in microbatches of 128 gradients
# took 0.80 of the time and matching at ipc 10, where classes then go at once, 0.69.  ResNet18, with
# five times the products, took as long in both.
CPU = Defaults(
    "winograd",
    microbatch=20,
    class_chunk=1,
    set_chunk=1,
    network_chunk=1,
    microbatches=MappingProxyType({"vgg11": 128}),
)
# Measured on an H100 (docs/performance.md), ConvNet on 28x28x1.  Kernels of ten images end before
# the next ones are launched: with all classes at once, where they are at most 1024 images, matching
# took a third of the time.  256 real images of one class fill the GPU: ten classes of them at once
# were no faster, in ten times the memory.  Four sets at once took 1.6 times as long as in turn, and
# 20 networks at once need 30 GB (not timed).
GPU = Defaults("hybrid", microbatch=1024, class_chunk=1, set_chunk=1, network_chunk=1)
# Not measured on one: chosen by compiling for TPUs (docs/scale.md).  At ipc 10 of CIFAR-10 a class
# at a time needs 1.2 GiB of a chip, ten at a time 5.1 GiB, and half as long again to compile; 256
# images of one class are work enough for a chip.  Sets go one after another for the same reason,
# and networks, of which 20 at once would not fit most chips.
TPU = Defaults("xla", microbatch=1024, class_chunk=1, set_chunk=1, network_chunk=1)

PLATFORMS = {"cpu": CPU, "gpu": GPU, "tpu": TPU}


def compiler_options(platform: str | None = None) -> dict[str, Any]:
    """Options for XLA, under which a program for that platform runs faster.

    Of the matrix products that a CPU can use, YNNPACK's, which are the default, are slower than
    Eigen's in jaxlib 0.10 and faster in 0.12 (docs/performance_notes.md).

    Args:
        platform: as JAX calls it; by default that of the default backend.
    """
    on_cpu = (platform or jax.default_backend()) == "cpu"
    eigen = on_cpu and jaxlib.__version__.startswith("0.10.")
    return {"xla_cpu_experimental_ynn_fusion_type": ""} if eigen else {}


def defaults() -> Defaults:
    """The defaults for JAX's default backend."""
    return PLATFORMS.get(jax.default_backend(), TPU)
