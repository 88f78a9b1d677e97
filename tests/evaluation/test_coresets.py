"""Coresets worked by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax.data.images import by_class
from gm_jax.evaluation import coresets

# Points 0, 1, 2, 9 on a line; the mean is 3.
LINE = jnp.array([[0.0], [1.0], [2.0], [9.0]])
ALL = jnp.ones(4, bool)


def test_herding_by_hand():
    """Nearest to 3 is 2.  Of the pairs, (2 + 1) / 2 = 1.5, 1, 5.5: 1.5 and 1 are 1.5 and 2 away,
    5.5 is 2.5 away: 1.  Then (2 + 1 + 9) / 3 = 4 is 1 away, (2 + 1 + 0) / 3 = 1 is 2 away: 9.
    """
    assert coresets.herding(LINE, ALL, 4).tolist() == [2, 1, 3, 0]


def test_k_center_by_hand():
    """2 is nearest to the mean, 9 farthest from it, then 0, 2 away from 2 (1 is 1 away)."""
    assert coresets.k_center(LINE, ALL, 4).tolist() == [2, 3, 0, 1]


@pytest.mark.parametrize("chooser", [coresets.herding, coresets.k_center])
def test_absent_images_are_not_chosen_and_do_not_count(chooser):
    """Without 9 the mean is 1, and it is chosen first."""
    chosen = chooser(LINE, jnp.array([True, True, True, False]), 3).tolist()
    assert sorted(chosen) == [0, 1, 2]
    assert chosen[0] == 1


@pytest.mark.parametrize("chooser", [coresets.herding, coresets.k_center])
def test_chosen_images_are_real_ones_of_their_class(chooser):
    labels = np.array([0, 0, 0, 1, 1])
    pixels = np.arange(5, dtype=np.uint8).reshape(5, 1, 1, 1)
    data = by_class(pixels, labels, 2, ((0.0,), (1 / 255,)))
    of = lambda x: x.reshape(len(x), -1)
    x, y = coresets.select_real(chooser, of, data, 3)
    assert y.tolist() == [0, 0, 0, 1, 1, -1]  # class 1 has two images only
    found = np.round(np.asarray(x).ravel()).astype(int)
    assert sorted(found[:3]) == [0, 1, 2]
    assert sorted(found[3:5]) == [3, 4]
