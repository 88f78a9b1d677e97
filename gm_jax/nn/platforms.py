"""What is fastest where: the defaults that depend on the platform, in one place.

None of them changes a result by more than rounding.  docs/performance.md and
docs/performance_notes.md have the measurements.
"""

import ctypes
import math
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jaxlib
from jax.sharding import Mesh


class Defaults(NamedTuple):
    """How work is cut on one platform; `None` means all at once.

    Attributes:
        convolution: a key of `convolution.FORMS`.
        microbatch: images at a time in means over images, for a network's name and an image's
            height and width.
        class_chunk: classes at a time in the gradients of each class.
        set_chunk: sets at a time, in a run of many.
        network_chunk: networks at a time, in an evaluation.
    """

    convolution: str
    microbatch: Callable[[str, int, int], int | None]
    class_chunk: int | None
    set_chunk: int | None
    network_chunk: int | None


def _in_the_cache(network: str, height: int, width: int) -> int:
    """So many images that what the first layers make of them stays in a CPU's cache.

    20 of 32x32 pixels, and of other sizes as many as have that many pixels; each side counts as the
    next multiple of 8 (ConvNet pads one-channel images of 28x28 to 32x32).  Beside 20 images of any
    size, training a ConvNet takes 0.71 of the time on 8x8 pixels, 0.88 on 16x16 and 64x64, 0.67 on
    128x128; beside 16 of 28x28, with huge pages, gradients take 0.98 of it and training on 100
    images 0.90 (jax 0.12, docs/performance_notes.md).  VGG11 has 30 times ConvNet's parameters,
    whose gradient is added up after each microbatch, and its images leave less behind, so it has
    128 of any size; ResNet18 has 20, since on 64x64 it takes 1.08 times as long in 5.  So have the
    variants of both.
    """
    for name, images in (("vgg11", 128), ("resnet18", 20)):
        if network.startswith(name):
            return images
    pixels = math.prod(math.ceil(side / 8) * 8 for side in (height, width))
    return max(1, 20 * 32 * 32 // pixels)


def _of_any_size(network: str, height: int, width: int) -> int:
    """1024, whatever the network and the size: what accelerators take (see below)."""
    return 1024


# On a CPU the cores are busy with one small batch, and what leaves the cache is slow.  Classes at
# once were slower unless all fit in a microbatch, seeds and networks too: an iteration of 16 seeds
# took 0.61 s a seed one after another, 0.80 s by fours, 0.87 s all at once
# (experiments/benchmarks/chunks.py).
CPU = Defaults("winograd", _in_the_cache, class_chunk=1, set_chunk=1, network_chunk=1)
# Measured on an H100 (docs/performance.md), ConvNet on 28x28x1.  Kernels of ten images end before
# the next ones are launched: with all classes at once, where they are at most 1024 images, matching
# took a third of the time.  256 real images of one class fill the GPU: ten classes of them at once
# were no faster, in ten times the memory.  Four sets at once took 1.6 times as long as in turn, and
# 20 networks at once need 30 GB (not timed).
GPU = Defaults("hybrid", _of_any_size, class_chunk=1, set_chunk=1, network_chunk=1)
# Not measured on one: chosen by compiling for TPUs (docs/scale.md).  At ipc 10 of CIFAR-10 a class
# at a time needs 1.2 GiB of a chip, ten at a time 5.1 GiB, and half as long again to compile; 256
# images of one class are work enough for a chip.  Sets go one after another for the same reason,
# and networks, of which 20 at once would not fit most chips.
TPU = Defaults("xla", _of_any_size, class_chunk=1, set_chunk=1, network_chunk=1)

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


def compile_program(program: jax.stages.Lowered, mesh: Mesh | None = None) -> jax.stages.Compiled:
    """The program compiled with `compiler_options`, and the compiler's memory given back.

    After compiling, glibc keeps 200 to 400 MB that the compiler has freed, in pieces that the
    program's arrays do not fit in, so that a process's peak was the sum of both.

    Args:
        program: from `jax.jit(function).lower(...)`.
        mesh: of the devices that it is for; `None` is the default backend's first.
    """
    platform = None if mesh is None else mesh.devices.flat[0].platform
    compiled = program.compile(compiler_options(platform))
    if sys.platform == "linux":  # other C libraries than glibc have no such function
        trim = getattr(ctypes.CDLL(None), "malloc_trim", lambda kept: None)
        trim(ctypes.c_size_t(0))
    return compiled


def defaults() -> Defaults:
    """The defaults for JAX's default backend."""
    return PLATFORMS.get(jax.default_backend(), TPU)
