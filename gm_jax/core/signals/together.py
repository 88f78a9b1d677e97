"""Several signals at once."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import ArrayLike

from gm_jax.core.distances import factors_of
from gm_jax.core.signals.signal import Signal, pullback
from gm_jax.errors import UserError


def together(*signals: Signal, weights: Sequence[ArrayLike] = ()) -> Signal:
    """(w_1 s_1, ..., w_n s_n): a tuple of signals, which a distance sees as one pytree.

    A mean over images if all of them are.  To compare each part by a distance of its own, see
    `distances.by_part`.  Cost: the sum of theirs, less what the compiler finds in common.

    Args:
        signals: one or more.
        weights: a factor each; all 1 by default.

    Raises:
        UserError: there is no signal, something else than a signal, or another number of weights.
    """
    if not signals or not all(isinstance(signal, Signal) for signal in signals):
        raise UserError("together: give it one signal or more, each a Signal")
    factors = factors_of("together", len(signals), weights)

    def of(model, params, x, y):
        parts = [signal.of(model, params, x, y) for signal in signals]
        return tuple(_scaled(w, part) for w, part in zip(factors, parts))

    def pull(model, params, x, y, v):
        parts = zip(signals, factors, v)
        return sum(pullback(s)(model, params, x, y, _scaled(w, part)) for s, w, part in parts)

    return Signal(of, all(signal.mean_over_images for signal in signals), pull)


def _scaled(weight: ArrayLike, part: Any) -> Any:
    return jax.tree.map(lambda t: jnp.asarray(weight, t.dtype) * t, part)
