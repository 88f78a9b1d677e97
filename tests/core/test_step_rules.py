"""Step rules traced by hand, and under vmap equal to single runs."""

import jax
import jax.numpy as jnp
import pytest

from gm_jax.core.step_rules import RuleState, fixed, overfit, schedule
from gm_jax.published_settings import MULTI_LEVEL_TABLE, OTHER_TABLE, paper_steps


def follow(rule, losses, outer_step=0) -> RuleState:
    """Runs a rule inside `while_loop` on given validation losses, one an epoch."""
    losses = jnp.asarray(losses, float)
    init = rule.init(jnp.asarray(outer_step), lambda: losses[0])
    return jax.lax.while_loop(
        rule.keep_going,
        lambda state: rule.update(state, lambda: losses[state.epochs + 1]),
        init,
    )


@pytest.mark.parametrize(
    ("losses", "epochs", "rose"),
    [
        ([3, 2, 1, 2, 0], 3, True),  # the third epoch made it rise from 1 to 2: kept, then stop
        ([1, 2, 0, 0, 0], 1, True),
        ([3, 2, 2, 1, 0, 5], 4, False),  # equal is no rise; four epochs are the limit
        ([4, 3, 2, 1, 2], 4, True),  # it rose in the last epoch allowed
    ],
)
def test_overfit(losses, epochs, rose):
    state = follow(overfit(limit=4), losses)
    assert (state.epochs, state.loss_rose) == (epochs, rose)


def test_overfit_stops_at_a_loss_that_is_no_number():
    """NaN > 1 is false, so the limit ends it: no endless loop."""
    assert follow(overfit(limit=3), [1, jnp.nan, jnp.nan, jnp.nan]).epochs == 3


def test_overfit_under_vmap_is_each_run_alone():
    losses = jnp.array([[3.0, 2, 1, 2, 0], [1, 2, 0, 0, 0], [5, 4, 3, 2, 1]])
    together = jax.vmap(lambda row: follow(overfit(4), row))(losses)
    for row, run in enumerate(losses):
        alone = follow(overfit(4), run)
        assert all(a[row] == b for a, b in zip(together, alone))
    assert together.epochs.tolist() == [3, 1, 4]


@pytest.mark.parametrize("epochs", [0, 1, 7])
def test_fixed(epochs):
    state = follow(fixed(epochs), [0])
    assert (state.epochs, state.loss_rose) == (epochs, False)


def test_rules_that_do_not_look_at_the_loss_never_ask_for_it():
    def refuse():
        raise AssertionError("asked for the validation loss")

    rule = schedule([2, 1])
    state = rule.update(rule.init(jnp.asarray(0), refuse), refuse)
    assert (state.epochs, state.limit) == (1, 2)


def test_schedule_is_the_papers_table():
    taken = lambda table: [int(follow(schedule(table), [0], k).epochs) for k in range(13)]
    assert taken(MULTI_LEVEL_TABLE) == [50, 40, 30, 20, 10, 10, 10, 10, 10, 10, 5, 5, 5]
    assert taken(OTHER_TABLE) == [100, 50, 50, 50, 10, 10, 10, 10, 10, 10, 5, 5, 5]


def test_steps_for_any_ipc():
    """Published at 1, 10, .. 50.  At 5, 4/9 of the way: 1 + 9 * 4/9 = 5, 1 + 49 * 4/9 = 22.8."""
    published = {1: (1, 1), 10: (10, 50), 20: (20, 25), 30: (30, 20), 40: (40, 15), 50: (50, 10)}
    assert {ipc: paper_steps(ipc) for ipc in published} == published
    assert paper_steps(5) == (5, 23)
    assert paper_steps(200) == (50, 10)
