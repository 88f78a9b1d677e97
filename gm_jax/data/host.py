"""Real images that stay with the host: what a step draws is sent to the devices as it is drawn.

The places are drawn on the devices by the same keys as ever; only pixels come from the host.  While
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


class Places(NamedTuple):
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
        self._next: dict[bytes, Places] = {}
        self._read: dict[bytes, Future] = {}

    def take(self, label: Int[Array, "*n"], number: Int[Array, "*n"]) -> UInt8[Array, "*n h w c"]:
        """`images[label, number]`, in a program on any device."""
        shape = jax.ShapeDtypeStruct((*label.shape, *self.shape[2:]), self.dtype)
        return jax.pure_callback(self._found, shape, label, number, vmap_method="sequential")

    def expect(self, orders: Iterable[Sequence[Places]]) -> None:
        """What will be asked for: orders of places, each order in turn, all of them side by side.

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

    def _begin(self, places: Places) -> None:
        self._read[_key(places)] = self._reader.submit(self._gather, places)

    def _found(self, label, number) -> np.ndarray:
        places = Places(np.asarray(label), np.asarray(number))
        with self._lock:
            reading = self._read.pop(_key(places), None)
            after = self._next.pop(_key(places), None)
            if after is not None:
                self._begin(after)
        return self._gather(places) if reading is None else reading.result()

    def _gather(self, places: Places) -> np.ndarray:
        return self.rows[places.label, places.number]


class Recorder:
    """In place of `ClassImages.images` where a draw is traced for its places alone."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype):
        self.shape, self.dtype = shape, dtype
        self.places: list[Places] = []

    def take(self, label: Int[Array, "*n"], number: Int[Array, "*n"]) -> UInt8[Array, "*n h w c"]:
        """Zeros; notes the places."""
        self.places.append(Places(label, number))
        return jnp.zeros((*label.shape, *self.shape[2:]), self.dtype)


def _key(places: Places) -> bytes:
    return b"".join(np.asarray(part, np.int32).tobytes() for part in places)
