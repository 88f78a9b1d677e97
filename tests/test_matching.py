"""Schemes by hand."""

import jax
import jax.numpy as jnp

from gm_jax.core.distances import mse_global
from gm_jax.core.objectives import intra, multi_level

# Two classes, one number each: gS = (1, 2), gT = (4, 0), D = (a - b)^2.
#   intra = (1 - 4)^2 + (2 - 0)^2 = 13;  the means are 1.5 and 2: D = 0.25
S, T = jnp.array([[1.0], [2.0]]), jnp.array([[4.0], [0.0]])


def test_intra():
    loss, info = intra(mse_global)(S, T)
    assert (loss, info.intra, info.inter) == (13, 13, 2 * 0.25)
    # d/da (a - b)^2 = 2 (a - b): -6 and 4; the reported inter part does not pull
    assert jnp.all(jax.grad(intra(mse_global), has_aux=True)(S, T)[0] == jnp.array([[-6.0], [4]]))


def test_multi_level_weighs_the_cross_class_part_by_the_number_of_classes():
    loss, info = multi_level(mse_global)(S, T)
    assert (loss, info.intra, info.inter) == (13.5, 13, 0.5)


def test_the_inter_weight_is_a_setting():
    assert multi_level(mse_global, 8.0)(S, T)[0] == 13 + 8 * 0.25
    assert multi_level(mse_global, 0.0)(S, T)[0] == 13
