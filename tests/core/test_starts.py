"""What the images start as: IDC's mosaics, against the golden vectors of the published program."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden_files import BEYOND

from gm_jax.core.starts import mosaic, mosaics
from gm_jax.data.images import by_class

META = json.loads((BEYOND / "multiformation.json").read_text())
CASES = {case["key"]: case for case in META["mix_init"]["cases"]}
SHAPES = {"gray": (1, 28, 28), "rgb": (3, 32, 32)}


@pytest.mark.parametrize("key", CASES)
def test_mosaics_are_golden(key, x64):
    case = CASES[key]
    shape, n = SHAPES[case["images"]], case["ipc"] * case["factor"] ** 2
    real = np.stack([np.random.RandomState(6400 + c).uniform(size=(n, *shape)) for c in range(2)])
    found = np.moveaxis(
        np.asarray(mosaic(jnp.asarray(np.moveaxis(real, 2, -1)), case["factor"])), -1, 2
    )
    found = found.reshape(-1, *shape)
    w = np.random.RandomState(6500).standard_normal(found.shape)
    assert abs((found * w).sum() - case["checks"]["out_dot_w"]) < 1e-9
    assert abs((found**2).sum() - case["checks"]["out_sq"]) < 1e-9
    with np.load(BEYOND / "multiformation.npz") as file:
        np.testing.assert_allclose(found[:: case["ipc"]], file[f"{key}/out"], atol=1e-6)


def test_a_mosaic_of_images_that_are_not_square():
    """Four images of 4x6, image k being 100 k + 10 row + column: tiles of every second pixel."""
    ramp = 10.0 * np.arange(4)[:, None] + np.arange(6)
    images = np.stack([100 * k + ramp for k in range(4)])[None, ..., None]
    found = np.asarray(mosaic(jnp.asarray(images), 2))[0, 0, :, :, 0]
    tile = np.array([[0.0, 2, 4], [20, 22, 24]])
    expected = np.block([[tile, 100 + tile], [200 + tile, 300 + tile]])
    np.testing.assert_array_equal(found, expected)


def test_a_mosaic_shows_distinct_images_of_its_class():
    """Image i of class c has pixels of value 40 c + i: 2 images of 2 x 2 tiles show 8 of 9."""
    pixels = np.arange(18) % 9 + 40 * (np.arange(18) // 9)
    images = np.broadcast_to(pixels[:, None, None, None], (18, 4, 4, 1)).astype(np.uint8)
    statistics = (0.0,), (1 / 255,)
    data = by_class(images, pixels // 40, 2, statistics)
    found = np.asarray(mosaics(2)(jax.random.key(0), data, 2))
    assert found.shape == (2, 2, 4, 4, 1)
    for of_class, lowest in zip(found, (0, 40)):
        tiles = of_class[:, ::2, ::2].ravel().round()
        assert len(set(tiles)) == 8
        assert min(tiles) >= lowest
        assert max(tiles) <= lowest + 8
