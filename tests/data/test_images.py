"""Sets, normalisation, and drawing on the device."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax.data.drawing import draw_classes, draw_mixed
from gm_jax.data.images import by_class, count_levels, denormalise, mean_and_std, normalise
from gm_jax.data.loading import load
from gm_jax.errors import UserError

KEY = jax.random.key(3)


@pytest.fixture(scope="module")
def uneven():
    """Classes of 3, 1 and 6 images of one pixel, whose value tells class and number: 40 c + n."""
    labels = np.repeat([0, 1, 2], [3, 1, 6])
    pixels = np.concatenate([np.arange(n) + 40 * c for c, n in enumerate([3, 1, 6])])
    images = pixels.astype(np.uint8).reshape(-1, 1, 1, 1)
    return by_class(images, labels, 3, ((0.0,), (1 / 255,)))  # normalised = the pixel itself


def values(images):
    return np.round(np.asarray(images)[..., 0, 0, 0]).astype(int)


@pytest.mark.parametrize("batch", [1, 3, 6, 100])
def test_class_batches_are_without_replacement_and_pad_small_classes(uneven, batch):
    images, labels = draw_classes(KEY, uneven, batch)
    drawn = min(batch, 6)
    assert images.shape == (3, drawn, 1, 1, 1)
    for c, count in enumerate([3, 1, 6]):
        present = labels[c] == c
        assert int(present.sum()) == min(batch, count)
        assert np.all(labels[c][~present] == -1)
        chosen = values(images[c])[np.asarray(present)]
        assert len(set(chosen)) == len(chosen)
        assert set(values(images[c])) <= set(range(40 * c, 40 * c + count))


def test_each_image_is_drawn_equally_often(uneven):
    """2 of 6, 3000 times: each image 1000 times; five deviations are 5 * sqrt(667) = 129."""
    keys = jax.random.split(KEY, 3000)
    drawn = jax.vmap(lambda k: draw_classes(k, uneven, 2)[0][2])(keys)
    counts = np.bincount(values(drawn).ravel() - 80, minlength=6)
    assert np.all(np.abs(counts - 1000) < 129)


@pytest.mark.parametrize("batch", [1, 7, 10, 50])
def test_mixed_batches_are_without_replacement(uneven, batch):
    there = jnp.arange(6)[None] < uneven.counts[:, None]
    pixels = jnp.where(there[..., None, None, None], uneven.images, 255)
    images, labels = draw_mixed(KEY, uneven._replace(images=pixels), batch)
    present = np.asarray(labels) >= 0
    assert present.sum() == min(batch, 10)
    chosen = values(images)[present]
    assert len(set(chosen)) == len(chosen)
    assert np.all(chosen // 40 == np.asarray(labels)[present])
    assert values(images).max() <= 85  # padding repeats them


def test_normalise_by_hand_and_back():
    """(51 / 255 - 0.1) / 0.5 = 0.2."""
    mean, std = jnp.array([0.1, 0.5]), jnp.array([0.5, 0.25])
    pixels = jnp.array([[[[51, 255]]]], jnp.uint8)
    normal = normalise(pixels, mean, std)
    assert jnp.allclose(normal, jnp.array([0.2, 2.0]).reshape(1, 1, 1, 2))
    assert np.all(denormalise(np.asarray(normal), np.asarray(mean), np.asarray(std)) == pixels)


def test_denormalise_clips():
    wild = np.array([-9.0, 9.0]).reshape(2, 1, 1, 1)
    assert denormalise(wild, np.array([0.5]), np.array([0.2])).ravel().tolist() == [0, 255]


@pytest.mark.parametrize(
    ("name", "shape", "train", "test"),
    [("digits", (8, 8, 1), 140, 397), ("mnist5k", (28, 28, 1), 400, 1000)],
)
def test_shipped_sets(name, shape, train, test):
    """digits has 1797 = 10 * 140 + 397 images, mnist5k 5000 = 10 * 400 + 1000."""
    data = load(name)
    assert data.image_shape == shape
    assert data.train.images.shape == (10, train, *shape)
    assert np.all(data.train.counts == train)
    assert data.test_images.shape == (test, *shape)
    normal = normalise(data.train.images, data.train.mean, data.train.std)
    # MNIST's published statistics are of all 60,000 images, so only nearly 0 and 1 here
    assert abs(float(normal.mean())) < 0.01
    assert abs(float(normal.std()) - 1) < 0.02


def test_mnist5k_holds_back_the_last_hundred_of_each_class():
    data = load("mnist5k")
    assert np.all(np.bincount(data.test_labels) == 100)
    flat = lambda a: {bytes(image) for image in np.asarray(a).reshape(-1, 784)}
    assert not flat(data.train.images) & flat(data.test_images)


def test_an_unknown_set_and_an_empty_class_are_refused():
    with pytest.raises(UserError, match=r"'mnist6k'.*digits, mnist5k"):
        load("mnist6k")
    pixels = np.zeros((2, 1, 1, 1), np.uint8)
    for labels, says in [
        ([0, 2], r"class 1 of 0..2 has no image"),
        ([0, 3], "0 to 2"),
        ([0, -1], "0 to 2"),
    ]:
        with pytest.raises(UserError, match=says):
            by_class(pixels, np.array(labels), 3)
    with pytest.raises(UserError, match="float64, must be whole"):
        by_class(pixels, np.array([0.0, 1.0]), 3)


def test_a_constant_channel_becomes_zero():
    """Whatever its level, and however the mean of many equal numbers is rounded."""
    for level in range(256):
        images = np.full((7, 3, 1, 1), level, np.uint8)
        mean, std = mean_and_std(count_levels(images))
        assert std == (1.0,)
        assert mean == pytest.approx((level / 255,), rel=1e-15)
