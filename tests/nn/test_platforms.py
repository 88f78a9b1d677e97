"""What is fastest where."""

import jax
import jax.numpy as jnp
import jaxlib

from gm_jax.nn import platforms


def test_options_are_known_to_this_compiler_and_are_for_a_cpu_alone():
    """Eigen's products with jaxlib 0.10; no option where none is needed."""
    assert platforms.compiler_options("tpu") == platforms.compiler_options("gpu") == {}
    product = jax.jit(jnp.matmul, compiler_options=platforms.compiler_options("cpu"))
    x = jnp.ones((256, 256))
    text = product.lower(x, x).compile().as_text()
    if jaxlib.__version__.startswith("0.10."):
        assert "ynn" not in text


def test_vgg11_has_a_microbatch_of_its_own_on_a_cpu_alone():
    """128 images, where others have 20; on accelerators all have 1024."""
    images = lambda name: [platforms.PLATFORMS[name].microbatch_of(n) for n in ("vgg11", "convnet")]
    assert {name: images(name) for name in platforms.PLATFORMS} == {
        "cpu": [128, 20],
        "gpu": [1024, 1024],
        "tpu": [1024, 1024],
    }
