"""What a run's images looked like along the way: snapshots.npz.

It holds the first image of each class of the first set, as it was learned, after 1, 2, 5, 10, 20,
50, ... iterations: `iterations` int32 `[s]` and `images` uint8 `[s, C, height, width, channel]`.
A run that is killed and resumed ends with the same file as an unbroken one.
"""

from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Int, UInt8

from gm_jax.condensed import Condensed
from gm_jax.core.method import State
from gm_jax.core.parametrisation import Parametrisation
from gm_jax.data.archives import read_npz
from gm_jax.data.images import ClassImages, denormalise
from gm_jax.errors import UserError
from gm_jax.parallel.hosts import fetch
from gm_jax.storage.files import atomic

NAME = "snapshots.npz"


class Snapshots(NamedTuple):
    """Images along the way, in the order of iterations; see the module."""

    iterations: Int[np.ndarray, " s"]
    images: UInt8[np.ndarray, "s C h w channel"]


def due(done: int) -> bool:
    """Whether a snapshot is taken after so many iterations.

    Examples:
        >>> [done for done in range(1001) if due(done)]
        [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]
    """
    return str(done).rstrip("0") in ("1", "2", "5")


def first_of_each(condensed: Condensed) -> UInt8[np.ndarray, "C h w channel"]:
    """The first image of each class of the first set, as it was learned, in pixels.

    Where no images were learned, those that they were decoded to.
    """
    learned = condensed.learned_images
    rows = condensed.rows(0) if learned is None else learned[0]
    return denormalise(rows[:, 0], condensed.mean, condensed.std)


def first_of_state(
    state: State, data: ClassImages, parametrisation: Parametrisation
) -> UInt8[np.ndarray, "C h w channel"]:
    """The same of a state, of which no more is decoded and fetched; in all processes of a run."""
    learned = state.images[0, :, :1]
    if learned.shape[2:] != data.images.shape[2:]:
        learned = jax.jit(parametrisation.decode)(learned)
    images = fetch(learned)[:, 0].astype(np.float32)
    return denormalise(images, np.asarray(data.mean), np.asarray(data.std))


def add(folder: Path, done: int, pixels: UInt8[np.ndarray, "C h w channel"]) -> None:
    """Adds a snapshot after so many iterations, in place of those of as many or more."""
    before = read(folder)
    iterations, images = np.zeros(0, np.int32), np.zeros((0, *pixels.shape), np.uint8)
    if before is not None:
        earlier = before.iterations < done  # the others are those of a run that is repeated
        iterations, images = before.iterations[earlier], before.images[earlier]
    with atomic(folder / NAME) as draft:
        np.savez_compressed(
            draft,
            allow_pickle=False,
            iterations=np.append(iterations, np.int32(done)),
            images=np.append(images, pixels[None], 0),
        )


def read(folder: Path) -> Snapshots | None:
    """The snapshots of a run; `None` if there are none.

    Raises:
        UserError: the file is damaged.
    """
    path = folder / NAME
    if not path.exists():
        return None
    arrays = read_npz(path)
    try:
        found = Snapshots(arrays["iterations"], arrays["images"])
        iterations, images = found
        good = iterations.dtype == np.int32 and images.dtype == np.uint8
        good &= iterations.ndim == 1 and images.ndim == 5 and len(iterations) == len(images)
    except KeyError:
        good = False
    if not good or images.shape[-1] not in (1, 3) or 0 in images.shape[1:]:
        raise UserError(f"{path} is damaged: delete it")
    return found
