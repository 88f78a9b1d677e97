"""Multi-formation against the golden vectors of the published program, and by hand."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden_files import BEYOND

from gm_jax.core.parametrisation import clamped, multi_formation, pixels

SEEDS = {"gray": (6101, 6201, 6301), "rgb": (6103, 6203, 6303)}
SHAPES = {"gray": (1, 28, 28), "rgb": (3, 32, 32)}
META = json.loads((BEYOND / "multiformation.json").read_text())
CASES = {case["key"]: case for case in META["cases"]}


def to_ours(images):
    """[n, channel, h, w] of one class in our layout [1, n, h, w, channel]."""
    return jnp.asarray(np.moveaxis(images, 1, -1))[None]


def to_theirs(images):
    return np.moveaxis(np.asarray(images)[0], -1, 1)


def draw(seed, shape):
    return np.random.RandomState(seed).standard_normal(shape)


@functools.partial(jax.jit, static_argnames="factor")
def decoded(x, w, factor):
    """The decode, and the gradient of sum(decode * w)."""
    fill = jnp.full(x.shape[-1], 0.5)
    decode = multi_formation(factor, fill).decode
    out, pull = jax.vjp(decode, x)
    return out, pull(w)[0]


@pytest.mark.parametrize("key", CASES)
def test_the_decode_and_its_gradient_are_golden(key, x64):
    """Of `multi`, which concatenates the factors 1 .. F, the checks of all of them."""
    case = CASES[key]
    kind, n, largest = case["images"], case["n"], case["factor"]
    x_seed, w_seed, v_seed = SEEDS[kind]
    x, v = (draw(seed, (n, *SHAPES[kind])) for seed in (x_seed, v_seed))
    w = draw(w_seed, case["out_shape"])
    factors = [largest] if case["type"] == "single" else list(range(1, largest + 1))
    outs, gradient, start = [], np.zeros_like(x), 0
    for factor in factors:
        part = w[start : start + n * factor**2]
        out, by_x = decoded(to_ours(x), to_ours(part), factor)
        outs.append(to_theirs(out))
        gradient += to_theirs(by_x)
        start += len(part)
    out = np.concatenate(outs)
    ours = {
        "out_dot_w": (out * w).sum(),
        "out_sq": (out**2).sum(),
        "grad_dot_v": (gradient * v).sum(),
        "grad_sq": (gradient**2).sum(),
    }
    for name, value in case["checks"].items():
        assert ours[name] == pytest.approx(value, rel=1e-10, abs=1e-9), name
    if case["arrays"]:
        with np.load(BEYOND / "multiformation.npz") as arrays:
            np.testing.assert_allclose(out, arrays[f"{key}/out"], atol=1e-6)
            np.testing.assert_allclose(gradient, arrays[f"{key}/grad"], atol=1e-6)


def test_crops_come_one_after_another():
    """Two constant 4x4 images, factor 2: crop (0, 0) of both, then (0, 1) of both, ..."""
    quarters = np.kron(np.arange(4).reshape(2, 2), np.ones((2, 2)))
    learned = jnp.asarray(np.stack([quarters, 10 + quarters]))[None, :, :, :, None]
    images = multi_formation(2, jnp.array([0.5])).decode(learned)
    assert images.shape == (1, 8, 4, 4, 1)
    assert jnp.allclose(images[0, :, 0, 0, 0], jnp.array([0, 10, 1, 11, 2, 12, 3, 13]))
    assert jnp.allclose(jnp.ptp(images, (2, 3)), 0, atol=1e-6)


def test_crops_of_images_that_are_not_square():
    """A ramp of 4x6, 10 row + column, factor 2: crop (i, j) has rows 2 i + r and columns 3 j + c.

    Row a reads r = (a + 1/2) / 2 - 1/2, clamped to 0 and 1: 0, 1/4, 3/4, 1; column b reads c =
    (b + 1/2) / 2 - 1/2, clamped to 0 and 2: 0, 1/4, 3/4, 5/4, 7/4, 2.  Bilinear is exact on a ramp.
    """
    ramp = 10.0 * jnp.arange(4)[:, None] + jnp.arange(6.0)[None]
    found = multi_formation(2, jnp.array([0.5])).decode(ramp[None, None, :, :, None])
    rows, columns = np.array([0, 0.25, 0.75, 1]), np.array([0, 0.25, 0.75, 1.25, 1.75, 2])
    for number, (i, j) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        expected = 10 * (2 * i + rows)[:, None] + (3 * j + columns)[None]
        np.testing.assert_allclose(found[0, number, :, :, 0], expected, rtol=1e-5, atol=1e-5)


def test_what_does_not_divide_is_filled_up():
    """5x7 of zeros, factor 3: sides of 6 and 9, whose last pixels are the fill, 1/2.

    Crops of 2x3 enlarged to 5x7: the last row of crops (2, j) and the last column of crops (i, 2)
    show the fill, the others zeros.
    """
    found = multi_formation(3, jnp.array([0.5])).decode(jnp.zeros((1, 1, 5, 7, 1)))
    assert found.shape == (1, 9, 5, 7, 1)
    found = np.asarray(found)[0, :, :, :, 0].reshape(3, 3, 5, 7)
    assert np.allclose(found[:2, :2], 0)
    assert np.allclose(found[2, :, -1], 0.5)
    assert np.allclose(found[:, 2, :, -1], 0.5)
    assert np.allclose(found[2, :2, 0], 0)
    assert np.allclose(found[:2, 2, :, 0], 0)


def test_factor_one_is_the_pixels_and_clamping_is_by_channel():
    assert multi_formation(1, jnp.zeros(1)) is pixels
    project = clamped(pixels, jnp.array([0.0, -1.0]), jnp.array([1.0, 0.5])).project
    learned = jnp.full((1, 1, 1, 1, 2), 3.0)
    assert project(learned).ravel().tolist() == [1.0, 0.5]
    assert project(-learned).ravel().tolist() == [0.0, -1.0]
