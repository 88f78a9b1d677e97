"""Condensed sets: what a run ends with, and the one call that makes them."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from gm_jax.condense import IterationInfo, run
from gm_jax.config import Config, build_method, check, check_with, start_state
from gm_jax.data import Dataset
from gm_jax.errors import UserError


class Synthetic(NamedTuple):
    """Condensed sets, and all that is needed to use them.

    Attributes:
        images: float32 `[seeds, C * ipc, height, width, channel]`, normalised, class after class.
        labels: int32 `[C * ipc]`.
        mean: float32 `[channel]`, of pixels in 0..1; pixel = image * std + mean.
        std: float32 `[channel]`.
        class_names: C strings.
        config: the settings they were condensed with.
    """

    images: Float[np.ndarray, "seeds n h w channel"]
    labels: Int[np.ndarray, " n"]
    mean: Float[np.ndarray, " channel"]
    std: Float[np.ndarray, " channel"]
    class_names: tuple[str, ...]
    config: Config


def condense_dataset(
    config: Config,
    dataset: Dataset,
    log: Callable[[int, IterationInfo], None] = lambda number, info: None,
) -> Synthetic:
    """Condenses a data set as the settings say, from start to end.

    Args:
        config: the settings; `config.dataset` is only their record of the set's name.
        dataset: what is condensed.
        log: called with each iteration's number (from 0) and info `[seeds, outer_steps]`.

    Raises:
        UserError: a setting is not allowed, or the images diverged.
    """
    check(config)
    check_with(config, dataset)
    method = build_method(config, dataset)
    keys, state = start_state(config, method, dataset)
    state = run(method, keys, dataset.train, state, config.iterations, log)
    seeds, classes, ipc, *shape = state.images.shape
    images = np.asarray(state.images, np.float32).reshape(seeds, classes * ipc, *shape)
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
