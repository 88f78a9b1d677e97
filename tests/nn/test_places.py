"""What products of a kernel's places leave out; values and derivatives: test_convolution.py."""

import jax.numpy as jnp
import pytest

from gm_jax.nn import places


@pytest.mark.parametrize(
    ("pixels", "products"),
    [
        (1, 1),  # the middle place alone
        (2, 16),  # each of 4 pixels meets all 4
        (4, 100),  # in a row 4 + 3 + 3 = 10 meetings, in both directions 10 * 10
    ],
)
def test_no_product_of_the_padding(pixels, products):
    """A kernel of 3x3, padded by 1: of 9 * pixels^2 products by the padded image."""
    sides = (pixels, pixels)
    slices = places._places((3, 3), sides, (1, 1))
    assert sum(jnp.ones(sides)[met].size for met, _ in slices) == products


def test_as_many_pixels_are_met_as_outputs_are_for_them():
    """5x4 places over 1x2 pixels, padded by 2: of 5 rows one meets the pixels, of 4 columns all.

    Outputs 1x3: columns at shifts -2, -1, 0, 1 meet 1 (the third output), 2, 2 and 1 pixels.
    """
    met, outputs = zip(*places._places((5, 4), (1, 2), (2, 2)))
    of = lambda size, slices: [jnp.ones(size)[one].size for one in slices]
    assert of((1, 2), met) == of((1, 3), outputs)
    assert sum(of((1, 2), met)) == 6
