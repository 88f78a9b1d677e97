"""Real images that stay with the host: what a step draws is sent to the devices as it is drawn.

The picks are drawn on the devices by the same keys as ever; only pixels come from the host.  While
a step computes, a thread reads what the next one will draw.
"""

import itertools
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, UInt8


class Picks(NamedTuple):
    """Where images lie in a data set, arrays of one shape.

    Attributes:
        label: the class.
        number: of the image in its class.
    """

    label: Int[Array | np.ndarray, "*n"]
    number: Int[Array | np.ndarray, "*n"]


@jax.tree_util.register_static
class HostImages:
    """Images `[C, N, height, width, channel]` in the memory or on the disk of the host.

    In place of `ClassImages.images`; in a program it is a constant, equal to itself alone.
    """

    def __init__(self, rows: UInt8[np.ndarray, "C N h w channel"]):
        self.rows, self.shape, self.dtype = rows, rows.shape, rows.dtype
        self._reader = ThreadPoolExecutor(1, "gm_jax reader")
        self._lock = threading.Lock()
        self._next: dict[bytes, Picks] = {}
        self._read: dict[bytes, Future] = {}

    def take(self, label: Int[Array, "*n"], number: Int[Array, "*n"]) -> UInt8[Array, "*n h w c"]:
        """`images[label, number]`, in a program on any device."""
        shape = jax.ShapeDtypeStruct((*label.shape, *self.shape[2:]), self.dtype)
        return jax.pure_callback(self._found, shape, label, number, vmap_method="sequential")

    def expect(self, orders: Iterable[Sequence[Picks]]) -> None:
        """What will be asked for: orders of picks, each order in turn, all of them side by side.

        The first of each is read at once, the others when the one before is given away.  What was
        expected before and never asked for is forgotten.
        """
        with self._lock:
            self._next, self._read = {}, {}
            for order in orders:
                for place, after in itertools.pairwise(order):
                    self._next[_key(place)] = after
                if order:
                    self._begin(order[0])

    def _begin(self, picks: Picks) -> None:
        self._read[_key(picks)] = self._reader.submit(self._gather, picks)

    def _found(self, label, number) -> np.ndarray:
        picks = Picks(np.asarray(label), np.asarray(number))
        with self._lock:
            reading = self._read.pop(_key(picks), None)
            after = self._next.pop(_key(picks), None)
            if after is not None:
                self._begin(after)
        return self._gather(picks) if reading is None else reading.result()

    def _gather(self, picks: Picks) -> np.ndarray:
        return self.rows[picks.label, picks.number]


class Recorder:
    """In place of `ClassImages.images` where a draw is traced for its picks alone."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype):
        self.shape, self.dtype = shape, dtype
        self.picks: list[Picks] = []

    def take(self, label: Int[Array, "*n"], number: Int[Array, "*n"]) -> UInt8[Array, "*n h w c"]:
        """Zeros; notes the picks."""
        self.picks.append(Picks(label, number))
        return jnp.zeros((*label.shape, *self.shape[2:]), self.dtype)


def _key(picks: Picks) -> bytes:
    return b"".join(np.asarray(part, np.int32).tobytes() for part in picks)
