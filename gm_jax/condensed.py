"""Condensed sets: what a run ends with, and the one call that makes them."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int

from gm_jax.config import (
    SWEPT,
    Config,
    Rates,
    build_method,
    check,
    check_with,
    chosen,
    sets,
    start_runs,
)
from gm_jax.core.divergence import Divergence, locate
from gm_jax.core.iteration import CondenseState, IterationInfo
from gm_jax.core.loop import Memory, advance, compile_iteration, memory
from gm_jax.data.images import Dataset
from gm_jax.errors import UserError
from gm_jax.nn import platforms


class Synthetic(NamedTuple):
    """Condensed sets, and all that is needed to use them.

    Attributes:
        images: float32 `[sets, C * ipc, height, width, channel]`, normalised, class after class; in
            the order of `config.sets`.
        labels: int32 `[C * ipc]`.
        mean: float32 `[channel]`, of pixels in 0..1; pixel = image * std + mean.
        std: float32 `[channel]`.
        class_names: C strings.
        iterations: int32 `[sets]`, done; a set that diverged has fewer than `config.iterations`.
        config: the settings they were condensed with.
    """

    images: Float[np.ndarray, "sets n h w channel"]
    labels: Int[np.ndarray, " n"]
    mean: Float[np.ndarray, " channel"]
    std: Float[np.ndarray, " channel"]
    class_names: tuple[str, ...]
    iterations: Int[np.ndarray, " sets"]
    config: Config

    @property
    def whole(self) -> list[int]:
        """The sets that did not diverge, from 0."""
        return np.flatnonzero(self.iterations == self.config.iterations).tolist()


class DivergedError(UserError):
    """Sets that stopped being finite; `explain` tells why.

    Attributes:
        synthetic: all sets; those that diverged are their last good state.
        state: of all runs.
    """

    def __init__(self, synthetic: Synthetic, state: CondenseState | None = None):
        ended = {
            at: int(number)
            for at, number in enumerate(synthetic.iterations)
            if at not in synthetic.whole
        }
        said = ", ".join(f"set {at} at iteration {number}" for at, number in ended.items())
        others = "; the other sets are finished" if synthetic.whole else ""
        super().__init__(f"diverged: {said}{others}")
        self.synthetic = synthetic
        self.state = state


class Watch(NamedTuple):
    """What a run tells while it works.

    Attributes:
        compiled: called before the first iteration with what the program needs.
        log: called with each iteration's number (from 0) and info `[sets, outer_steps]`.
        pause: asked after each iteration whether `save` is to be called.
        save: called with the state, all iterations behind it logged; it may raise to end the run.
    """

    compiled: Callable[[Memory], None] = lambda memory: None
    log: Callable[[int, IterationInfo], None] = lambda number, info: None
    pause: Callable[[], bool] = lambda: False
    save: Callable[[CondenseState], None] = lambda state: None


def condense_dataset(
    config: Config,
    dataset: Dataset,
    watch: Watch = Watch(),
    state: CondenseState | None = None,
) -> Synthetic:
    """Condenses a data set as the settings say, from start to end.

    Args:
        config: the settings; `config.dataset` is only their record of the set's name.
        dataset: what is condensed.
        watch: what is told, and asked.
        state: where to go on from, as `watch.save` was given it; it is given up.

    Raises:
        UserError: a setting is not allowed.
        DivergedError: a set stopped being finite; the others were finished first.
    """
    check(config)
    check_with(config, dataset)
    runs = start_runs(config, dataset)
    runs = runs if state is None else runs._replace(state=state)
    chunk = chosen(config.seed_chunk, platforms.here().seed_chunk)
    method_of = lambda rates: build_method(config, dataset, rates)
    step = compile_iteration(method_of, runs, dataset.train, chunk)
    watch.compiled(memory(step))
    while True:
        state, going = advance(step, runs, dataset.train, config.iterations, watch.log, watch.pause)
        done = np.asarray(state.iteration)
        if not going.any() or done.max() == config.iterations:
            break
        watch.save(state)
        runs = runs._replace(state=state)
    synthetic = _synthetic(config, dataset, state)
    if len(synthetic.whole) < len(done):
        raise DivergedError(synthetic, state)
    return synthetic


def _synthetic(config: Config, dataset: Dataset, state: CondenseState) -> Synthetic:
    number, classes, ipc, *shape = state.images.shape
    return Synthetic(
        images=np.asarray(state.images, np.float32).reshape(number, classes * ipc, *shape),
        labels=np.repeat(np.arange(classes, dtype=np.int32), ipc),
        mean=np.asarray(dataset.train.mean, np.float32),
        std=np.asarray(dataset.train.std, np.float32),
        class_names=dataset.class_names,
        iterations=np.asarray(state.iteration),
        config=config,
    )


# --- what went wrong ------------------------------------------------------------------------------


def explain(error: DivergedError, dataset: Dataset) -> str:
    """Why the first set diverged that did, in one line; its last iteration is done again for that.

    Args:
        error: of `condense_dataset`.
        dataset: what was condensed.
    """
    config = error.synthetic.config
    at = min(set(range(len(error.synthetic.images))) - set(error.synthetic.whole))
    seed, rates = sets(config)[at]
    of_set = jax.tree.map(lambda a: a[at], error.state)
    key = start_runs(config, dataset).keys[at]
    found = locate(build_method(config, dataset, rates), key, dataset.train, of_set)
    return f"{error}; set {at} (seed {seed}): {_said(found, rates)}"


def _said(found: Divergence | None, rates: Rates) -> str:
    if found is None:
        return "when its last iteration was done again, all was finite"
    what = "images" if found.part == "images" else f"{found.part} loss"
    tensor = f" (tensor {found.tensor})" if found.tensor else ""
    value = getattr(rates, found.cause)
    than = "" if value is None else f" than {value:g}"
    flag = "--" + found.cause.replace("_", "-")
    where = f"outer step {found.step} of iteration {found.iteration}"
    return f"the {what}{tensor} is not finite in {where}: try a smaller {flag}{than}"


def swept(config: Config, rates: Rates) -> dict[str, float]:
    """Those of a set's numbers that have several values in this run."""
    return {name: getattr(rates, name) for name in SWEPT if len(getattr(config, name) or ()) > 1}
