"""Step rules: how many inner epochs follow an outer step.  Small state machines.

    state = rule.init(outer_step, validation_loss)
    while rule.keep_going(state):
        ...one inner epoch...
        state = rule.update(state, validation_loss)

`validation_loss` is a function without arguments, called only by the rules that look at it: the
others never pay for it.  All three work inside `lax.while_loop` and under `vmap`.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Int

ValidationLoss = Callable[[], Float[Array, ""]]


class RuleState(NamedTuple):
    """Where the network's training stands between two outer steps.

    Attributes:
        epochs: inner epochs taken, int32 scalar.
        limit: inner epochs at most, int32 scalar.
        loss: the validation loss after the last epoch; 0 where the rule does not look at it.
        loss_rose: whether the last epoch made the validation loss rise.
    """

    epochs: Int[Array, ""]
    limit: Int[Array, ""]
    loss: Float[Array, ""]
    loss_rose: Bool[Array, ""]


class StepRule(NamedTuple):
    """A state machine; see the head of this file.

    Its state is any pytree with the fields `epochs` and `loss_rose`, which are logged.
    """

    init: Callable[[Int[Array, ""], ValidationLoss], Any]
    update: Callable[[Any, ValidationLoss], Any]
    keep_going: Callable[[Any], Bool[Array, ""]]


def fixed(epochs: int) -> StepRule:
    """The same number of inner epochs after every outer step (arXiv 2006.05929)."""
    return schedule([epochs])


def schedule(table: Sequence[int]) -> StepRule:
    """`table[outer_step]` inner epochs, the last entry for all later steps."""

    def init(outer_step, validation_loss):
        limit = jnp.asarray(table, jnp.int32)[jnp.minimum(outer_step, len(table) - 1)]
        return _start(limit, 0.0)

    def update(state, validation_loss):
        return state._replace(epochs=state.epochs + 1)

    return StepRule(init, update, _keep_going)


def overfit(limit: int = 50) -> StepRule:
    """Stop as soon as an epoch made the validation loss rise (arXiv 2208.00311, sec. 3.3).

    The epoch that made it rise is kept.  `limit` epochs at most.
    """

    def init(outer_step, validation_loss):
        return _start(limit, validation_loss())

    def update(state, validation_loss):
        loss = validation_loss()
        return state._replace(epochs=state.epochs + 1, loss=loss, loss_rose=loss > state.loss)

    return StepRule(init, update, _keep_going)


def _start(limit: ArrayLike, loss: ArrayLike) -> RuleState:
    """Before the first epoch."""
    zero = jnp.zeros((), jnp.int32)
    return RuleState(zero, jnp.asarray(limit, jnp.int32), jnp.asarray(loss), zero > 0)


def _keep_going(state: RuleState) -> Bool[Array, ""]:
    return (state.epochs < state.limit) & ~state.loss_rose
