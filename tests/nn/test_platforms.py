"""What is fastest where."""

import ctypes
import platform
from pathlib import Path

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
import pytest

from gm_jax.nn import platforms


def test_options_are_known_to_this_compiler_and_are_for_a_cpu_alone():
    """Eigen's products with jaxlib 0.10; no option where none is needed."""
    assert platforms.compiler_options("tpu") == platforms.compiler_options("gpu") == {}
    product = jax.jit(jnp.matmul, compiler_options=platforms.compiler_options("cpu"))
    x = jnp.ones((256, 256))
    text = product.lower(x, x).compile().as_text()
    if jaxlib.__version__.startswith("0.10."):
        assert "ynn" not in text


@pytest.mark.parametrize(
    ("network", "size", "images"),
    [
        ("convnet", (32, 32), 20),
        ("convnet", (28, 28), 20),  # as 32x32
        ("convnet", (8, 8), 320),  # 20 * 16
        ("convnet", (64, 64), 5),
        ("convnet", (64, 30), 10),
        ("convnet", (512, 512), 1),
        ("resnet18", (64, 64), 20),
        ("vgg11", (8, 8), 128),
        ("vgg11bn", (32, 32), 128),
        ("resnet18_ap", (64, 64), 20),
    ],
)
def test_images_at_a_time(network, size, images):
    """On a CPU so many that they have the pixels of 20 images of 32x32; elsewhere 1024."""
    of = lambda platform: platforms.PLATFORMS[platform].microbatch(network, *size)
    assert (of("cpu"), of("gpu"), of("tpu")) == (images, 1024, 1024)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps freed memory so")
def test_after_compiling_freed_memory_is_given_back():
    """96 MB in pieces of 64 kB, 15 of 16 freed: of these 90 MB the system gets at least half.

    Such is what a compiler leaves: glibc by itself gives back only what lies at the end.
    """
    lowered = jax.jit(lambda x: 2 * x).lower(jnp.ones(3))
    lowered.compile()  # what the first compilation keeps is taken before
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    pieces = [libc.malloc(2**16) for _ in range(1536)]
    for piece in pieces:
        ctypes.memset(piece, 1, 2**16)
    kept = pieces[::16]
    for piece in set(pieces) - set(kept):
        libc.free(piece)
    before = resident_bytes()
    doubled = platforms.compile_program(lowered)
    freed = before - resident_bytes()
    for piece in kept:
        libc.free(piece)
    assert freed > 45 * 2**20
    np.testing.assert_array_equal(doubled(jnp.ones(3)), 2 * np.ones(3))


def resident_bytes() -> int:
    """This process's memory less its files; Linux."""
    status = Path("/proc/self/status").read_text().splitlines()
    (line,) = [line for line in status if line.startswith("RssAnon")]
    return int(line.split()[1]) * 1024
