"""Sums over windows against numpy by hand, and their derivatives against jnp.sum's."""

import jax
import jax.numpy as jnp
import pytest

from gm_jax.nn.windows import window_spread, window_sum

pytestmark = pytest.mark.usefixtures("x64")

WINDOWS = [(2, 2), (1, 3), (2, 6), (4, 6)]  # the last one is the whole image


def reference(x, window):
    n, h, w, c = x.shape
    return jnp.sum(x.reshape(n, h // window[0], window[0], w // window[1], window[1], c), (2, 4))


def test_by_hand():
    """1 + 2 + 5 + 6 = 14 and 3 + 4 + 7 + 8 = 22."""
    x = jnp.arange(1.0, 9.0).reshape(1, 2, 4, 1)
    assert window_sum(x, (2, 2)).ravel().tolist() == [14, 22]
    spread = window_spread(jnp.array([[[[1.0], [2.0]]]]), (2, 2))
    assert spread[0, :, :, 0].tolist() == [[1, 1, 2, 2], [1, 1, 2, 2]]


@pytest.mark.parametrize("window", WINDOWS)
def test_derivatives_and_vmap_are_jnp_sums(window):
    x = jax.random.normal(jax.random.key(0), (3, 2, 4, 6, 5))

    def derivatives(total):
        value = lambda x: jnp.sum(jnp.sin(total(x, window)) ** 2)
        first = jax.grad(value)
        second = jax.grad(lambda x: jnp.sum(first(x) ** 3))
        forward = lambda x: jax.jvp(first, (x,), (x * x,))[1]
        return [jax.vmap(f)(x) for f in (value, first, second, forward)]

    for ours, theirs in zip(derivatives(window_sum), derivatives(reference), strict=True):
        assert jnp.max(jnp.abs(ours - theirs)) < 1e-10 * jnp.max(jnp.abs(theirs))


@pytest.mark.parametrize("height", [1, 6, 7, 28, 32])  # 1, 2, 1, 4 and 8 strips
def test_the_whole_image_in_strips(height):
    """A sum of whole numbers up to height * 15 - 1, whose rounding is none."""
    x = jnp.arange(height * 15.0).reshape(1, height, 5, 3)
    expected = x.sum((1, 2), keepdims=True)
    assert jnp.array_equal(window_sum(x, (height, 5)), expected)


def test_a_window_that_does_not_tile_is_refused():
    with pytest.raises(ValueError, match=r"\(2, 2\) do not tile an image of \(3, 4\)"):
        window_sum(jnp.zeros((1, 3, 4, 1)), (2, 2))
