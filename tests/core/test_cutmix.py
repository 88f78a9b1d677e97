"""Cutmix: the golden boxes of the published program, and the law of what is drawn."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden_files import BEYOND

from gm_jax.core.cutmix import cutmix, cutmix_box
from gm_jax.core.signals import cross_entropy

KEY = jax.random.key(0)
GOLDEN = json.loads((BEYOND / "cutmix.json").read_text())


@pytest.mark.parametrize("example", GOLDEN["examples"], ids=str)
def test_a_box_of_cutmix_is_golden(example, x64):
    size = example["size"]
    centre = jnp.asarray(example["row_centre"]), jnp.asarray(example["col_centre"])
    mask = cutmix_box(jnp.asarray(example["lam"]), *centre, size, size)
    expected = np.zeros((size, size, 1), bool)
    rows = slice(example["row_from"], example["row_to"])
    expected[rows, example["col_from"] : example["col_to"]] = True
    assert (mask == expected).all()
    assert 1 - np.asarray(mask).mean() == pytest.approx(example["ratio"], abs=1e-12)


@functools.partial(jax.jit, static_argnames="probability")
def mixed_many(keys, probability):
    """8 images of 28 x 28, image i being i everywhere, with label i."""
    x = jnp.broadcast_to(jnp.arange(8.0)[:, None, None, None], (8, 28, 28, 1))
    return jax.vmap(lambda key: cutmix(key, x, jnp.arange(8), probability))(keys)


def test_cutmix():
    """Each box holds the partner's pixels, is one for the batch, and has the share 1 - ratio."""
    mixed = jax.tree.map(np.asarray, mixed_many(jax.random.split(KEY, 200), 1.0))
    assert (np.sort(mixed.partner_y, 1) == np.arange(8)).all()
    assert (mixed.y == np.arange(8)).all()
    own, partner = (y[..., None, None, None] for y in (mixed.y, mixed.partner_y))
    assert ((mixed.x == own) | (mixed.x == partner)).all()
    differs = own != partner
    boxes = (mixed.x != own).any(1, keepdims=True)
    assert ((mixed.x != own) == (boxes & differs)).all()
    seen = differs.any((1, 2, 3, 4))  # not so where each image is its own partner
    expected = np.where(seen, 1 - boxes.mean((1, 2, 3, 4)), mixed.ratio)
    np.testing.assert_allclose(mixed.ratio, expected, atol=1e-6)


def test_cutmix_happens_with_its_probability():
    """2000 draws; a box is empty if sqrt(1 - lam) 28 < 2: (1 - 1/196) / 2 2000 = 995 are not.

    Standard deviation sqrt(2000 / 4) = 22, 5 of them.
    """
    ratio = np.asarray(mixed_many(jax.random.split(KEY, 2000), 0.5).ratio)
    assert abs((ratio < 1).sum() - 995) < 112
    never = jax.tree.map(np.asarray, mixed_many(jax.random.split(KEY, 2), 0.0))
    assert (never.ratio == 1).all()
    assert (never.x == never.y[..., None, None, None]).all()


def test_both_forms_of_the_labels_give_one_loss():
    x, y, logits = jnp.zeros((8, 28, 28, 1)), jnp.arange(8), jax.random.normal(KEY, (8, 9))

    @jax.jit
    def losses(key):
        mixed = cutmix(key, x, y, 1.0)
        own, partner = cross_entropy(logits, mixed.y), cross_entropy(logits, mixed.partner_y)
        expected = mixed.ratio * own + (1 - mixed.ratio) * partner
        return mixed.ratio, expected, cross_entropy(logits, mixed.distribution(9))

    ratio, expected, loss = losses(KEY)
    assert 0 < ratio < 1
    assert loss == pytest.approx(float(expected), rel=1e-6)
