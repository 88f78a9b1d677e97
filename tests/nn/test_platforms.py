"""What is fastest where."""

import jax
import jax.numpy as jnp
import jaxlib
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
