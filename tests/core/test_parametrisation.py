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


def test_factor_one_is_the_pixels_and_clamping_is_by_channel():
    assert multi_formation(1, jnp.zeros(1)) is pixels
    project = clamped(pixels, jnp.array([0.0, -1.0]), jnp.array([1.0, 0.5])).project
    learned = jnp.full((1, 1, 1, 1, 2), 3.0)
    assert project(learned).ravel().tolist() == [1.0, 0.5]
    assert project(-learned).ravel().tolist() == [0.0, -1.0]
