"""Iterations one after another, of one or more sets at once: one compiled program each.

step = compile_iteration(method_of, sets, data, chunk=1)
for number, state, info in iterations(step, sets, data, until=1000):
    ...  # log, save, stop: the loop is the caller's
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Key

from gm_jax.core.batching import chunked
from gm_jax.core.iteration import iteration
from gm_jax.core.method import IterationInfo, Method, State
from gm_jax.data.images import ClassImages
from gm_jax.nn import platforms
from gm_jax.parallel.hosts import fetch
from gm_jax.parallel.meshes import over_sets, where_classes_lie


class Sets(NamedTuple):
    """What differs from set to set: a leading axis on every array.

    Attributes:
        keys: a set's key, the same for all its iterations.
        swept: numbers that are swept, a pytree; what `method_of` takes of one set.
        state: from `init`, or where to go on from.
    """

    keys: Key[Array, " sets"]
    swept: Any
    state: State


class Memory(NamedTuple):
    """What an iteration's program needs on a device, in bytes, by the compiler's own analysis.

    Attributes:
        arguments: real images, synthetic images and optimiser state; results take their place.
        temporary: all that exists only while an iteration runs.
    """

    arguments: int
    temporary: int


def compile_iteration(
    method_of: Callable[[Any], Method],
    sets: Sets,
    data: ClassImages,
    chunk: int | None = 1,
    mesh: Mesh | None = None,
) -> jax.stages.Compiled:
    """`(keys, swept, state, data) -> (state, info)` of all sets; the state is donated.

    Args:
        method_of: the equations of one set, from its swept numbers; called while tracing.
        sets: for the shapes of their arrays, and where they lie.
        data: likewise.
        chunk: sets at a time on a device; see `batching.chunked`.
        mesh: devices that the sets, and the classes of each, are spread over; `None` is one.
    """

    def step(keys, swept, state, data):
        one = lambda key, swept, state: iteration(method_of(swept), key, data, state)
        return chunked(one, chunk)(keys, swept, state)

    shared = None if mesh is None else where_classes_lie(mesh, data)
    program = jax.jit(over_sets(mesh, step, shared), donate_argnums=2).lower(*sets, data)
    return platforms.compile_program(program, mesh)


def memory(step: jax.stages.Compiled) -> Memory:
    """What the compiled iteration needs."""
    found: Any = step.memory_analysis()
    return Memory(found.argument_size_in_bytes, found.temp_size_in_bytes)


def iterations(
    step: jax.stages.Compiled, sets: Sets, data: ClassImages, until: int
) -> Iterator[tuple[int, State, IterationInfo]]:
    """Iterations until `until` of them are done, or every set has diverged.

    Each is yielded as soon as it is dispatched: whoever reads its info later, best one iteration
    later, lets the device work on without a pause.

    Args:
        step: from `compile_iteration`.
        sets: where each stands.  `sets.state` is donated: its buffers are used again.
        data: the real images, the same for all sets.
        until: iterations done in the end, those behind `sets.state` included.

    Yields:
        the iteration's number from 0, the state after it, donated when the next one is asked for,
        and its info `[sets, outer_steps]`.  A set that diverged stays at its last good state, with
        fewer iterations done.
    """
    keys, swept, state = sets
    before = None
    for number in range(iterations_done(state), until):
        state, info = step(keys, swept, state, data)
        yield number, state, info
        if before is not None and not np.any(np.all(fetch(before), -1)):
            return  # every set diverged in the iteration before, and this one changed nothing
        before = info.finite


def iterations_done(state: State) -> int:
    """Iterations behind the sets that go on; a set that diverged stays at fewer."""
    return int(np.max(fetch(state.iteration)))
