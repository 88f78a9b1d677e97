"""Layers by hand: maxima and their derivatives, norms against Flax's."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax.nn.layers import GroupNorm, group_norm, instance_norm, layer_norm, max_pool

pytestmark = pytest.mark.usefixtures("x64")


def test_the_largest_of_each_window():
    """Windows (1, 5, 2, 3) and (8, 7, 6, 9); an odd last row and column are left out."""
    x = jnp.array([[1.0, 5, 8, 7, 99], [2, 3, 6, 9, 99], [99, 99, 99, 99, 99]])[None, :, :, None]
    assert max_pool(x).ravel().tolist() == [5, 9]
    gradient = jax.grad(lambda x: jnp.sum(max_pool(x) * jnp.array([2.0, 3.0])[None, None, :, None]))
    expected = [[0, 2, 0, 0, 0], [0, 0, 0, 3, 0], [0, 0, 0, 0, 0]]
    assert gradient(x)[0, :, :, 0].tolist() == expected


def test_of_equal_numbers_the_first_gets_the_derivative():
    """As in PyTorch, row by row: of (4, 4, 4, 4) the first; of (1, 7, 7, 2) the second."""
    x = jnp.array([[4.0, 4, 1, 7], [4, 4, 7, 2]])[None, :, :, None]
    found = jax.grad(lambda x: jnp.sum(max_pool(x)))(x)[0, :, :, 0].tolist()
    assert found == [[1, 0, 0, 1], [0, 0, 0, 0]]


def test_higher_orders_and_forward_mode():
    """Of sum max^3: first derivative 3 m^2, second 6 m, third 6, each at the maximum alone."""
    x = jnp.array([[1.0, 2.0], [0.5, -1.0]])[None, :, :, None]
    f = lambda x: jnp.sum(max_pool(x) ** 3)
    along = jnp.ones_like(x)
    second = lambda x: jax.jvp(jax.grad(f), (x,), (along,))[1]
    assert jax.grad(f)(x).ravel().tolist() == [0, 12, 0, 0]
    assert second(x).ravel().tolist() == [0, 12, 0, 0]
    assert jax.jvp(second, (x,), (along,))[1].ravel().tolist() == [0, 6, 0, 0]
    assert jax.vmap(jax.grad(f))(jnp.stack([x, 2 * x])).ravel().tolist() == [
        0,
        12,
        0,
        0,
        0,
        48,
        0,
        0,
    ]


def test_exactly_one_pixel_of_a_window_gets_the_derivative():
    """After a norm, in one program in single precision: of each window's four, one is not 0.

    So it is where whole blocks of pixels are equal, and rounding alone tells them apart.
    """
    x = jax.random.normal(jax.random.key(0), (4, 8, 8, 5), jnp.float32)
    x = x.at[:2].set(jnp.round(x[:2]))

    class Block(nn.Module):
        @nn.compact
        def __call__(self, x, shift):
            return jnp.sum(max_pool(instance_norm(x, False) * 0.7 + shift))

    params = Block().init(jax.random.key(1), x, jnp.zeros_like(x))
    found = jax.jit(jax.grad(Block().apply, 2))(params, x, jnp.zeros_like(x))
    of_windows = found.reshape(4, 4, 2, 4, 2, 5)
    assert jnp.array_equal(jnp.sum(of_windows == 1, (2, 4)), jnp.ones((4, 4, 4, 5)))
    assert jnp.array_equal(jnp.sum(of_windows == 0, (2, 4)), jnp.full((4, 4, 4, 5), 3))


def test_nan_is_not_hidden():
    x = jnp.array([[1.0, jnp.nan], [2.0, 3.0]])[None, :, :, None]
    assert jnp.isnan(max_pool(x)).all()
    assert jax.grad(lambda x: jnp.sum(max_pool(x)))(x).ravel().tolist() == [0, 1, 0, 0]


def test_the_first_of_infinite_numbers():
    x = jnp.full((1, 2, 2, 1), -jnp.inf)
    assert max_pool(x).item() == -jnp.inf
    assert jax.grad(lambda x: jnp.sum(max_pool(x)))(x).ravel().tolist() == [1, 0, 0, 0]


@pytest.mark.parametrize("norm", [group_norm, instance_norm, layer_norm])
def test_norms_of_constant_images_are_finite(norm):
    """In single precision E[x^2] - E[x]^2 of a constant is a rounding, often below -1e-5.

    The norm of such an image is its bias, 0, up to that rounding times 1 / sqrt(1e-5).
    """

    class Norm(nn.Module):
        @nn.compact
        def __call__(self, x):
            return norm(x, False)

    shades = jnp.linspace(0.05, 40, 200, dtype=jnp.float32)[:, None, None, None]
    x = jnp.broadcast_to(shades, (200, 6, 6, 4))
    params = Norm().init(jax.random.key(0), x)
    value = jax.jit(lambda x: Norm().apply(params, x))
    gradient = lambda x: jax.grad(lambda x: jnp.sum(jnp.sin(value(x))))(x)
    second = lambda x: jax.jvp(gradient, (x,), (x,))[1]
    assert jnp.abs(value(x)).max() < 0.02
    assert jnp.isfinite(jax.jit(gradient)(x)).all()
    assert jnp.isfinite(jax.jit(second)(x)).all()


def test_unequal_groups_of_channels_are_refused():
    with pytest.raises(ValueError, match="4 channels do not make 3 equal groups"):
        GroupNorm(3).init(jax.random.key(0), jnp.zeros((1, 2, 2, 4)))


@pytest.mark.parametrize(
    ("ours", "flax"),
    [
        (group_norm, nn.GroupNorm(num_groups=4, epsilon=1e-5)),
        (layer_norm, nn.LayerNorm(epsilon=1e-5, reduction_axes=(1, 2, 3), feature_axes=(1, 2, 3))),
    ],
)
def test_norms_are_flaxs(ours, flax):
    """Values, and derivatives by images and by scales."""

    class Ours(nn.Module):
        @nn.compact
        def __call__(self, x):
            return ours(x, False)

    x = 3 + 2 * jax.random.normal(jax.random.key(0), (2, 4, 4, 8))
    params = jax.tree.map(
        lambda p: p + 0.1 * jax.random.normal(jax.random.key(1), p.shape),
        flax.init(jax.random.key(0), x)["params"],
    )

    def derivatives(module, nested):
        apply = lambda params, x: module.apply({"params": nested(params)}, x)
        loss = lambda params, x: jnp.sum(jnp.sin(apply(params, x)))
        return apply(params, x), jax.grad(loss, (0, 1))(params, x)

    name = type(flax).__name__ + "_0"
    mine = derivatives(Ours(), lambda params: {name: params})
    theirs = derivatives(flax, lambda params: params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9), mine, theirs)
