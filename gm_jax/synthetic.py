"""Condensed sets: what a run ends with, and the one call that makes them."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from gm_jax import platforms
from gm_jax.condense import IterationInfo, Memory, run
from gm_jax.config import Config, build_method, check, check_with, chosen, start_runs
from gm_jax.data import Dataset
from gm_jax.errors import UserError


class Synthetic(NamedTuple):
    """Condensed sets, and all that is needed to use them.

    Attributes:
        images: float32 `[sets, C * ipc, height, width, channel]`, normalised, class after class; in
            the order of `config.sets`.
        labels: int32 `[C * ipc]`.
        mean: float32 `[channel]`, of pixels in 0..1; pixel = image * std + mean.
        std: float32 `[channel]`.
        class_names: C strings.
        config: the settings they were condensed with.
    """

    images: Float[np.ndarray, "sets n h w channel"]
    labels: Int[np.ndarray, " n"]
    mean: Float[np.ndarray, " channel"]
    std: Float[np.ndarray, " channel"]
    class_names: tuple[str, ...]
    config: Config


def condense_dataset(
    config: Config,
    dataset: Dataset,
    log: Callable[[int, IterationInfo], None] = lambda number, info: None,
    compiled: Callable[[Memory], None] = lambda memory: None,
) -> Synthetic:
    """Condenses a data set as the settings say, from start to end.

    Args:
        config: the settings; `config.dataset` is only their record of the set's name.
        dataset: what is condensed.
        log: called with each iteration's number (from 0) and info `[sets, outer_steps]`.
        compiled: called before the first iteration with what the program needs.

    Raises:
        UserError: a setting is not allowed, or the images diverged.
    """
    check(config)
    check_with(config, dataset)
    state = run(
        lambda rates: build_method(config, dataset, rates),
        start_runs(config, dataset),
        dataset.train,
        config.iterations,
        chosen(config.seed_chunk, platforms.here().seed_chunk),
        log,
        compiled,
    )
    sets, classes, ipc, *shape = state.images.shape
    images = np.asarray(state.images, np.float32).reshape(sets, classes * ipc, *shape)
    if not np.isfinite(images).all():
        raise UserError("the images are not finite any more: try smaller learning rates")
    return Synthetic(
        images=images,
        labels=np.repeat(np.arange(classes, dtype=np.int32), ipc),
        mean=np.asarray(dataset.train.mean, np.float32),
        std=np.asarray(dataset.train.std, np.float32),
        class_names=dataset.class_names,
        config=config,
    )
