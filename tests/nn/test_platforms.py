"""What is fastest where."""

import jax
import jax.numpy as jnp

from gm_jax.nn import platforms


def test_options_are_known_to_this_jax_and_choose_the_faster_products():
    """YNNPACK's in jax 0.12, Eigen's in 0.10; no option goes to a compiler that lacks it."""
    assert platforms.compiler_options("tpu") == platforms.compiler_options("gpu") == {}
    product = jax.jit(jnp.matmul, compiler_options=platforms.compiler_options("cpu"))
    x = jnp.ones((256, 256))
    text = product.lower(x, x).compile().as_text()
    assert ("ynn" in text) == (jax.__version_info__ >= (0, 11))
