"""Networks: what they offer besides logits."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from gm_jax.build import build_network, convnet_depth
from gm_jax.config import Config
from gm_jax.data.loading import load
from gm_jax.nn.layers import Dense
from gm_jax.nn.networks import from_flax, from_functions


def test_features_are_what_the_last_dense_layer_sees():
    """logits = features @ kernel + bias."""
    digits = load("digits")
    for name in ("convnet", "mlp"):
        small = {"width": 4, "depth": 1} if name == "convnet" else {}
        network = build_network(Config(dataset="digits", network=name, **small), digits)
        params, stats = network.init(jax.random.key(0))
        x = jax.random.normal(jax.random.key(1), (3, 8, 8, 1))
        found = network.features(params, stats, x)
        last = params[max(layer for layer in params if layer.startswith("Dense"))]
        logits = network.apply(params, stats, x)
        assert jnp.allclose(found @ last["kernel"] + last["bias"][None], logits, atol=1e-5)


def test_features_of_a_layer_that_is_called_by_name():
    class Linear(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            return Dense(2)(x=x.reshape(len(x), -1))

    network = from_flax(Linear(), (2, 2, 1))
    x = jnp.arange(8.0).reshape(2, 2, 2, 1)
    found = network.features(*network.init(jax.random.key(0)), x)
    assert jnp.array_equal(found, x.reshape(2, 4))


def test_a_network_without_dense_layers_has_no_features():
    network = from_functions(lambda key: (), lambda params, x: x.reshape(len(x), -1))
    with pytest.raises(ValueError, match="offers no features"):
        network.features((), {}, jnp.zeros((1, 2, 2, 1)))


@pytest.mark.parametrize(("size", "depth"), [(4, 1), (8, 1), (28, 3), (32, 3), (64, 4), (128, 5)])
def test_convnets_depth_leaves_about_four_pixels(size, depth):
    """round(log2(size)) - 2; what is set counts first."""
    dataset = load("digits")._replace(test_images=jnp.zeros((1, size, 2 * size, 1), jnp.uint8))
    assert convnet_depth(Config(), dataset) == depth
    assert convnet_depth(Config(depth=2), dataset) == 2
