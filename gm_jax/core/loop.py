"""A run: iterations one after another, one compiled program each, of one or more runs at once."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Key

from gm_jax.core.batching import chunked
from gm_jax.core.iteration import CondenseState, IterationInfo, Method, iteration
from gm_jax.data.images import ClassImages


class Runs(NamedTuple):
    """What differs from run to run, of one or more runs: a leading axis on every array.

    Attributes:
        keys: a run's key, the same for all its iterations.
        rates: numbers that are swept, a pytree; what `method_of` takes of one run.
        state: from `init`.
    """

    keys: Key[Array, " runs"]
    rates: Any
    state: CondenseState


class Memory(NamedTuple):
    """What an iteration's program needs on its device, in bytes, by the compiler's own analysis.

    Attributes:
        arguments: real images, synthetic images and optimiser state; results take their place.
        temporary: all that lives only while an iteration runs.
    """

    arguments: int
    temporary: int


def run(
    method_of: Callable[[Any], Method],
    runs: Runs,
    data: ClassImages,
    iterations: int,
    chunk: int | None = 1,
    log: Callable[[int, IterationInfo], None] = lambda number, info: None,
) -> CondenseState:
    """Iterations up to number `iterations`, one compiled program each, of one or more runs at once.

    Args:
        method_of: the equations of one run, from its rates; called while tracing.
        runs: where each starts; its state is given up, the buffers are used again.
        data: the real images, the same for all.
        iterations: how many, those that `runs.state` has behind it included.
        chunk: runs at a time; see `mapping.chunked`.
        log: see `advance`.

    Returns:
        the last state, a leading runs axis on every array.  A run that diverged stays at its last
        good state, with fewer iterations done.
    """
    step = compile_iteration(method_of, runs, data, chunk)
    return advance(step, runs, data, iterations, log)[0]


def advance(
    step: jax.stages.Compiled,
    runs: Runs,
    data: ClassImages,
    until: int,
    log: Callable[[int, IterationInfo], None] = lambda number, info: None,
    pause: Callable[[], bool] = lambda: False,
) -> tuple[CondenseState, Bool[np.ndarray, " runs"]]:
    """Iterations up to number `until`, or until `pause()`, or until every run has diverged.

    Args:
        step: from `compile_iteration`.
        runs: where each stands; its state is given up, the buffers are used again.
        data: the real images, the same for all.
        until: iterations done in the end.
        log: called with each iteration's number (from 0) and info `[runs, outer_steps]`, one
            iteration late, so that the device never waits for the host; all are logged at the end.
        pause: asked after each iteration.

    Returns:
        the state, and whether each run's last iteration was finite.
    """
    keys, rates, state = runs
    going, before = np.ones(len(keys), bool), None
    for number in range(int(np.max(jax.device_get(state.iteration))), until):
        state, info = step(keys, rates, state, data)
        if before is not None:
            going = _logged(log, number - 1, before)
        before = info
        if pause() or not going.any():
            break
    if before is not None:
        going = _logged(log, number, before)
    return state, going


def _logged(log: Callable, number: int, info: IterationInfo) -> Bool[np.ndarray, " runs"]:
    info = jax.device_get(info)
    log(number, info)
    return info.finite.all(-1)


def compile_iteration(
    method_of: Callable[[Any], Method], runs: Runs, data: ClassImages, chunk: int | None
) -> jax.stages.Compiled:
    """`(keys, rates, state, data) -> (state, info)` of all runs; the state is given up."""

    @functools.partial(jax.jit, donate_argnums=2)
    def step(keys, rates, state, data):
        one = lambda key, rates, state: iteration(method_of(rates), key, data, state)
        return chunked(one, chunk)(keys, rates, state)

    return step.lower(*runs, data).compile()


def memory(step: jax.stages.Compiled) -> Memory:
    """What the compiled iteration needs."""
    found = step.memory_analysis()
    return Memory(found.argument_size_in_bytes, found.temp_size_in_bytes)
