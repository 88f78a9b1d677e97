"""Objectives by hand."""

import jax
import jax.numpy as jnp

from gm_jax.core.distances import mse_global
from gm_jax.core.objectives import (
    MatchInfo,
    Place,
    across,
    within,
    within_and_across,
    within_then_across,
)

# Two classes, one number each: gS = (1, 2), gT = (4, 0), D = (a - b)^2.
#   intra = (1 - 4)^2 + (2 - 0)^2 = 13;  the means are 1.5 and 2: D = 0.25
START = Place(jnp.array(0), jnp.array(0), jnp.array(False))
S, T = jnp.array([[1.0], [2.0]]), jnp.array([[4.0], [0.0]])


def test_within():
    assert within(START, mse_global, 2, S, T) == MatchInfo(13, 13, 2 * 0.25)
    # d/da (a - b)^2 = 2 (a - b): -6 and 4; the reported inter part does not pull
    gradient = jax.grad(lambda s: within(START, mse_global, 2, s, T).loss)(S)
    assert jnp.all(gradient == jnp.array([[-6.0], [4]]))


def test_across():
    assert across(START, mse_global, 8.0, S, T) == MatchInfo(2.0, 0, 2.0)


def test_within_and_across():
    assert within_and_across(START, mse_global, 2, S, T) == MatchInfo(13.5, 13, 0.5)
    assert within_and_across(START, mse_global, 8.0, S, T).loss == 13 + 8 * 0.25
    assert within_and_across(START, mse_global, 0.0, S, T).loss == 13


def test_within_then_across():
    """Class by class while the iteration is below 2 and the outer step below 3, then across."""
    objective = within_then_across(2, 3)
    at = lambda i, s: objective(START._replace(iteration=i, step=s), mse_global, 8.0, S, T).loss
    steps = jnp.arange(5)
    losses = [[float(at(jnp.array(i), s)) for s in steps] for i in range(3)]
    assert losses == [[13, 13, 13, 2, 2], [13, 13, 13, 2, 2], [2, 2, 2, 2, 2]]
    gradient = jax.grad(lambda s: objective(START, mse_global, 8.0, s, T).loss)(S)
    assert jnp.all(gradient == jnp.array([[-6.0], [4]]))  # of `within` alone
