"""Which real images an iteration will match: drawn before it begins, for the host to read ahead."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key

from gm_jax.core.iteration import all_step_keys, step_keys
from gm_jax.core.loop import Sets
from gm_jax.core.method import Method
from gm_jax.data.host import Picks, Recorder
from gm_jax.data.images import ClassImages


def real_picks(
    method: Method, key: Key[Array, ""], data: ClassImages, iteration: Int[Array, ""]
) -> list[Picks]:
    """The picks of the real images of every outer step, `[outer_steps, ...]`, for each draw.

    None where several schemes take turns.
    """
    if len(method.schemes) > 1:
        return []
    recorder: Any = Recorder(data.images.shape, data.images.dtype)

    def of_step(key):
        recorder.picks.clear()
        method.schemes[0].real(step_keys(key).real, data._replace(images=recorder))
        return list(recorder.picks)

    return jax.vmap(of_step)(all_step_keys(method, key, iteration)[1])


def orders(
    method_of: Callable[[Any], Method], sets: Sets, data: ClassImages, devices: np.ndarray
) -> Callable[[int], list[list[Picks]]]:
    """`iteration -> orders` of picks, one for each device of this process, for `HostImages.expect`.

    Args:
        method_of: the equations of one set, from its swept numbers.
        sets: all of them.
        data: the real images, with the counts of all classes.
        devices: of the mesh, `[groups, shares]`: sets are divided among the groups, and the classes
            of a group's sets among its devices.
    """
    groups, shares = devices.shape

    @jax.jit
    def program(keys, swept, counts, iteration):
        whole = data._replace(counts=counts)
        of_set = lambda key, swept: real_picks(method_of(swept), key, whole, iteration)
        return jax.lax.map(lambda of: of_set(*of), (keys, swept))

    def ahead(iteration: int) -> list[list[Picks]]:
        number = jnp.asarray(iteration, jnp.int32)
        draws = jax.device_get(program(sets.keys, sets.swept, data.counts, number))
        count = len(sets.keys)
        padded = np.append(np.arange(count), np.zeros(-count % groups, int))
        return [
            _order(draws, of_group, (share, shares))
            for of_group, row in zip(np.split(padded, groups), devices, strict=True)
            for share, device in enumerate(row)
            if device.process_index == jax.process_index()
        ]

    return ahead


def _order(draws: list[Picks], sets: Int[np.ndarray, " n"], share: tuple[int, int]) -> list[Picks]:
    """What one device asks for: set after set, step after step, its share of the classes."""
    which, shares = share
    found = []
    for at in sets:
        for step in range(len(draws[0].label[at]) if draws else 0):
            for draw in draws:
                label, number = (np.split(part[at, step], shares)[which] for part in draw)
                found.append(Picks(label, number))
    return found
