"""Many processes, of one or more hosts, that run one program: what each must do alike.

Every process runs the same lines in the same order, and the first one prints and writes.  All
functions here but `start`, `is_first` and `is_lost` are collective: every process calls them, or
none.  In a run of one process they do nothing beyond their work.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from gm_jax.errors import UserError

Tree = Any
T = TypeVar("T")

HEARTBEAT_SECONDS = 30
"""A process that gives no sign of life for so long is dead, and all others end."""

LOST = ("Gloo", "NCCL", "UNAVAILABLE", "DEADLINE_EXCEEDED", "oordination", "ABORTED")
"""Words of errors of the runtime that exchanges data."""

START_SECONDS = 300
"""The most that processes wait for one another at the start and at the end."""


def start(
    coordinator: str | None = None, processes: int | None = None, process: int | None = None
) -> None:
    """Joins the processes of a run; before anything is computed.

    Args:
        coordinator: HOST:PORT of the first process; `None` finds it from Slurm, TPU or Open MPI.
        processes: how many there are; likewise.
        process: which of them this is, from 0; likewise.

    Raises:
        UserError: nothing says where the others are, or they do not come.
    """
    # JAX would catch SIGTERM and only note it, for `multihost_utils.reached_preemption_sync_point`
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            coordinator,
            processes,
            process,
            initialization_timeout=START_SECONDS,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=START_SECONDS,
        )
    except (ValueError, RuntimeError) as error:
        why = " ".join(str(error).split())
        raise UserError(
            f"--distributed: {why} (where neither Slurm, a TPU slice nor Open MPI starts the "
            "processes, give --coordinator, --processes and --process)"
        ) from error


def is_first() -> bool:
    """Whether this process is the one that prints and writes."""
    return not jax.distributed.is_initialized() or jax.process_index() == 0


def is_lost(error: Exception) -> bool:
    """Whether an error says that another process is not there any more."""
    several = jax.distributed.is_initialized() and jax.process_count() > 1
    return several and any(word in str(error) for word in LOST)


# --- arrays ---------------------------------------------------------------------------------------


def fetch(tree: Tree) -> Tree:
    """Arrays as NumPy ones, whatever devices and processes hold them."""

    def of_leaf(array):
        if not isinstance(array, jax.Array) or array.is_fully_addressable:
            return jax.device_get(array)
        if array.is_fully_replicated:
            return np.asarray(array)
        return multihost_utils.process_allgather(array, tiled=True)

    return jax.tree.map(of_leaf, tree)


def from_first(tree: Tree) -> Tree:
    """What the first process has, for all; the others give arrays of the same shapes."""
    if jax.process_count() == 1:
        return tree
    return multihost_utils.broadcast_one_to_all(tree)


def highest(number: int) -> int:
    """The highest of the processes' numbers, or whether any of them says yes."""
    if jax.process_count() == 1:
        return number
    return int(multihost_utils.process_allgather(np.array(number, np.int32)).max())


def texts(text: str) -> list[str]:
    """A text of each process, in their order."""
    if jax.process_count() == 1:
        return [text]
    mine = np.frombuffer(text.encode(errors="surrogateescape"), np.uint8)
    lengths = multihost_utils.process_allgather(np.array([len(mine)]))[:, 0]
    room = np.zeros(max(1, lengths.max()), np.uint8)
    room[: len(mine)] = mine
    rows = multihost_utils.process_allgather(room)
    found = [bytes(row[:length]) for row, length in zip(rows, lengths)]
    return [text.decode(errors="surrogateescape") for text in found]


# --- work -----------------------------------------------------------------------------------------


def together(work: Callable[[], T]) -> T:
    """Does work that may fail in some processes: then all others raise `UserError`.

    The work itself must not be collective.
    """
    if jax.process_count() == 1:
        return work()
    try:
        done = work()
    except BaseException as error:  # the others wait, whatever it is
        texts(str(error) or type(error).__name__)
        raise
    for process, complaint in enumerate(texts("")):
        if complaint:
            raise UserError(f"process {process}: {complaint}")
    return done


def on_first(work: Callable[[], T]) -> T | None:
    """Does work in the first process alone, while the others wait; they get `None`."""
    return together(lambda: work() if is_first() else None)
