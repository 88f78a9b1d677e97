"""Objectives by hand."""

import jax
import jax.numpy as jnp

from gm_jax.core.distances import mse_global
from gm_jax.core.objectives import across, within, within_and_across

# Two classes, one number each: gS = (1, 2), gT = (4, 0), D = (a - b)^2.
#   intra = (1 - 4)^2 + (2 - 0)^2 = 13;  the means are 1.5 and 2: D = 0.25
S, T = jnp.array([[1.0], [2.0]]), jnp.array([[4.0], [0.0]])


def test_within():
    assert within(mse_global, 2, S, T) == (13, 13, 2 * 0.25)
    # d/da (a - b)^2 = 2 (a - b): -6 and 4; the reported inter part does not pull
    gradient = jax.grad(lambda s: within(mse_global, 2, s, T).loss)(S)
    assert jnp.all(gradient == jnp.array([[-6.0], [4]]))


def test_across():
    assert across(mse_global, 8.0, S, T) == (2.0, 0, 2.0)


def test_within_and_across():
    assert within_and_across(mse_global, 2, S, T) == (13.5, 13, 0.5)
    assert within_and_across(mse_global, 8.0, S, T).loss == 13 + 8 * 0.25
    assert within_and_across(mse_global, 0.0, S, T).loss == 13
