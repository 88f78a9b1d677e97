"""Condensed sets: what a run ends with."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from gm_jax.config import Config
from gm_jax.core.method import State
from gm_jax.errors import UserError
from gm_jax.variants import VariantRecord


class Condensed(NamedTuple):
    """Condensed sets, and all that is needed to use them.

    Attributes:
        images: float32 `[sets, C * n, height, width, channel]`, normalised, class after class; in
            the order of `config.list_sets`.  They are what was learned, decoded: n = ipc for plain
            pixels, ipc * factor^2 for multi-formation.
        labels: int32 `[C * n]`.
        mean: float32 `[channel]`, of pixels in 0..1; pixel = image * std + mean.
        std: float32 `[channel]`.
        class_names: C strings.
        iterations: int32 `[sets]`, done; a set that diverged has fewer than `config.iterations`.
        config: the settings they were condensed with.
        variant: the change of the method that they were condensed with, if any.
        learned: float32 `[sets, C, ipc, ...]`; `None` where the images themselves were learned.
    """

    images: Float[np.ndarray, "sets n h w channel"]
    labels: Int[np.ndarray, " n"]
    mean: Float[np.ndarray, " channel"]
    std: Float[np.ndarray, " channel"]
    class_names: tuple[str, ...]
    iterations: Int[np.ndarray, " sets"]
    config: Config
    variant: VariantRecord | None = None
    learned: Float[np.ndarray, "sets C ipc *shape"] | None = None

    def rows(self, number: int) -> Float[np.ndarray, "C n h w channel"]:
        """The images of a set, a row a class."""
        return self.images[number].reshape(len(self.class_names), -1, *self.images.shape[2:])

    @property
    def learned_images(self) -> Float[np.ndarray, "sets C ipc h w channel"] | None:
        """What was learned, where that is images of this size, which are decoded to others."""
        if self.learned is None or self.learned.shape[3:] != self.images.shape[2:]:
            return None
        return self.learned

    @property
    def finished(self) -> list[int]:
        """The sets that did not diverge, from 0."""
        return np.flatnonzero(self.iterations == self.config.iterations).tolist()

    @property
    def diverged(self) -> list[int]:
        """The sets that did, from 0."""
        return np.flatnonzero(self.iterations != self.config.iterations).tolist()


class DivergedError(UserError):
    """Sets that stopped being finite; `api.explain` finds out why.

    Attributes:
        condensed: all sets; those that diverged are their last good state.
        state: of all sets; `None` where they were read from a file.
    """

    def __init__(self, condensed: Condensed, state: State | None = None):
        ended = ", ".join(
            f"set {number} at iteration {condensed.iterations[number]}"
            for number in condensed.diverged
        )
        others = "; the other sets are finished" if condensed.finished else ""
        super().__init__(f"diverged: {ended}{others}")
        self.condensed = condensed
        self.state = state
