"""The calls that most users need: condense a data set, and evaluate what comes of it."""

import functools
import logging
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from gm_jax import checks
from gm_jax.build import (
    at_a_time,
    build_method,
    build_network,
    check_fits,
    dsa_strategy,
    start_sets,
)
from gm_jax.condensed import Condensed, DivergedError, from_state
from gm_jax.config import (
    Config,
    Evaluation,
    SetSettings,
    check,
    list_sets,
    several_values,
    with_network,
)
from gm_jax.core import loop
from gm_jax.core.divergence import Divergence, find_divergence
from gm_jax.core.method import IterationInfo, State, Variant, unchanged
from gm_jax.data.images import Dataset
from gm_jax.errors import UserError
from gm_jax.evaluation.coresets import random_real
from gm_jax.evaluation.protocol import (
    LabelledSets,
    Protocol,
    Summary,
    dsa_protocol,
    evaluate_sets,
    paper_protocol,
    summarise,
    test_set,
)
from gm_jax.nn import platforms
from gm_jax.nn.networks import Network
from gm_jax.variants import VariantRecord, describe

log = logging.getLogger("gm_jax")


# --- condensing -----------------------------------------------------------------------------------


def condense(config: Config, dataset: Dataset, variant: Variant = unchanged) -> Condensed:
    """Condenses a data set as the settings say, from start to end.

    Args:
        config: the settings; `config.dataset` is only their record of the set's name.
        dataset: what is condensed.
        variant: a change of the method, `Method -> Method`.

    Raises:
        UserError: a setting is not allowed.
        DivergedError: a set stopped being finite; the others were finished first.
    """
    for number, after, _ in iterations(config, dataset, variant):
        log.debug("iteration %d of %d", number + 1, config.iterations)
        state = after
    condensed = finish(config, dataset, state, variant, describe(variant))
    if condensed.diverged:
        raise DivergedError(condensed, state)
    return condensed


def finish(
    config: Config,
    dataset: Dataset,
    state: State,
    variant: Variant = unchanged,
    record: VariantRecord | None = None,
) -> Condensed:
    """The condensed sets of a state that `iterations` yielded.

    Args:
        config, dataset, variant: as in `iterations`.
        state: the last one, or any before it.
        record: of the variant, to be saved with the sets.
    """
    parametrisation = variant(build_method(config, dataset)).parametrisation
    return from_state(config, dataset, state, parametrisation, record)


def iterations(
    config: Config, dataset: Dataset, variant: Variant = unchanged, state: State | None = None
) -> Iterator[tuple[int, State, IterationInfo]]:
    """The iterations of a run, for a loop of your own: log, save and stop as you like.

    Checks and compiles at once; logs the memory that the program needs.

    Args:
        config, dataset, variant: as in `condense`.
        state: where to go on from; it is donated.  Default: the start.

    Returns:
        an iterator of `(number, state, info)`; see `core.loop.iterations`.

    Raises:
        UserError: a setting is not allowed.
    """
    check(config)
    check_fits(config, dataset)
    sets = start_sets(config, dataset, variant)
    sets = sets if state is None else sets._replace(state=state)
    chunk = at_a_time(config.set_chunk, platforms.defaults().set_chunk)
    method_of = lambda swept: variant(build_method(config, dataset, swept))
    step = loop.compile_iteration(method_of, sets, dataset.train, chunk)
    data, temporary = (size / 2**20 for size in loop.memory(step))
    parts = f"data set and images {data:.0f}, temporary {temporary:.0f}"
    log.info("memory: %.0f MiB (%s)", data + temporary, parts)
    return loop.iterations(step, sets, dataset.train, config.iterations)


def explain(error: DivergedError, dataset: Dataset, variant: Variant = unchanged) -> str:
    """Why the first set that diverged did, in one line; its last iteration is repeated for that.

    Args:
        error: of `condense`.
        dataset: what was condensed.
        variant: what it was condensed with.
    """
    config, number = error.condensed.config, error.condensed.diverged[0]
    of_set = list_sets(config)[number]
    state = jax.tree.map(lambda a: a[number], error.state)
    key = start_sets(config, dataset, variant).keys[number]
    method = variant(build_method(config, dataset, of_set.swept))
    found = find_divergence(method, key, dataset.train, state)
    return f"{error}; set {number} (seed {of_set.seed}): {_describe_divergence(found, of_set)}"


def _describe_divergence(found: Divergence | None, of_set: SetSettings) -> str:
    if found is None:
        return "when its last iteration was repeated, all was finite"
    what = "images" if found.part == "images" else f"{found.part} loss"
    tensor = f" (tensor {found.tensor})" if found.tensor else ""
    value = getattr(of_set.swept, found.cause)
    than = "" if value is None else f" than {value:g}"
    where = f"outer step {found.step} of iteration {found.iteration}"
    smaller = f"try a smaller {checks.flag(found.cause)}{than}"
    return f"the {what}{tensor} is not finite in {where}: {smaller}"


# --- evaluating -----------------------------------------------------------------------------------


class Score(NamedTuple):
    """What networks of one architecture reached, trained on one kind of set.

    Attributes:
        network: the architecture, as `Evaluation.networks` names it.
        trained_on: `condensed`, with the values of swept settings; or `random real`.
        accuracies: on the test images, 0..1, `[sets, networks]`.
        protocol: how they were trained.
    """

    network: str
    trained_on: str
    accuracies: Float[np.ndarray, "sets networks"]
    protocol: Protocol

    @property
    def summary(self) -> Summary:
        """Mean and spread, in percent."""
        return summarise(self.accuracies)


def evaluate(
    condensed: Condensed,
    dataset: Dataset,
    settings: Evaluation = Evaluation(),
    variant: Variant = unchanged,
    progress: Callable[[], None] = lambda: None,
) -> list[Score]:
    """Trains fresh networks on condensed sets, and on as many random real images, and tests them.

    Sets that diverged are left out.

    Args:
        condensed: the sets.
        dataset: real images and test images; normalised as the condensed ones are.
        settings: which networks, how many, how long.
        variant: what the sets were condensed with; its network is trained unless
            `settings.networks` names others.
        progress: called as each network is tested.

    Returns:
        a score for each network and kind of set.

    Raises:
        UserError: a setting is not allowed, a network does not fit, or all sets diverged.
    """
    check_evaluation(condensed, dataset, settings)
    mean, std = (jnp.asarray(part, float) for part in (condensed.mean, condensed.std))
    dataset = dataset._replace(train=dataset.train._replace(mean=mean, std=std))
    config, defaults = condensed.config, platforms.defaults()
    microbatch = at_a_time(config.microbatch, defaults.microbatch)
    protocol = {
        "paper": paper_protocol(dataset, microbatch),
        "dsa": dsa_protocol(dsa_strategy(dataset), microbatch),
    }[settings.protocol]
    protocol = protocol._replace(epochs=settings.epochs or protocol.epochs)
    random_key, networks_key = jax.random.split(jax.random.key(settings.seed))
    seeds = 0 if settings.skip_random_real else config.seeds
    groups = _sets_to_train_on(jax.random.split(random_key, seeds), condensed, dataset)
    kinds = _kinds(condensed, seeds)
    test, chunk = test_set(dataset), at_a_time(settings.chunk, defaults.network_chunk)
    scores = []
    for name, network in _networks(condensed, dataset, settings, variant).items():
        train = functools.partial(evaluate_sets, networks_key, network, protocol)
        accuracies = np.concatenate(
            [train(sets, test, settings.count, chunk, progress, first) for first, sets in groups]
        )
        scores += [
            Score(name, kind, accuracies[of_kind], protocol) for kind, of_kind in kinds.items()
        ]
    return scores


def check_evaluation(condensed: Condensed, dataset: Dataset, settings: Evaluation) -> None:
    """Raises `UserError` for the first thing that `evaluate` does not allow."""
    checks.check(settings)
    if not condensed.finished:
        raise UserError("every set diverged: there is nothing to evaluate")
    for config in _named_configs(condensed, settings).values() or (condensed.config,):
        check_fits(config, dataset)


def networks_to_train(condensed: Condensed, settings: Evaluation) -> int:
    """How many networks `evaluate` trains."""
    random_sets = 0 if settings.skip_random_real else condensed.config.seeds
    sets = len(condensed.finished) + random_sets
    return sets * settings.count * max(1, len(settings.networks))


def _networks(
    condensed: Condensed, dataset: Dataset, settings: Evaluation, variant: Variant
) -> dict[str, Network]:
    """The networks to train, by name: those that are named, or the run's own."""
    if named := _named_configs(condensed, settings):
        return {name: build_network(config, dataset) for name, config in named.items()}
    config = condensed.config
    return {config.network: variant(build_method(config, dataset)).network}


def _named_configs(condensed: Condensed, settings: Evaluation) -> dict[str, Config]:
    return {name: with_network(condensed.config, name) for name in settings.networks}


def _sets_to_train_on(
    keys: jax.Array, condensed: Condensed, dataset: Dataset
) -> list[tuple[int, LabelledSets]]:
    """The condensed sets that are finished and the random real ones, in groups of one size each.

    Each group comes with the number of its first set, which the networks' keys depend on.
    """
    finished = condensed.images[condensed.finished]
    labels = np.tile(condensed.labels, (len(finished), 1))
    if not len(keys):
        return [(0, LabelledSets(finished, labels))]
    drawn = [random_real(key, dataset.train, condensed.config.ipc) for key in keys]
    images, their_labels = (np.stack([np.asarray(p) for p in parts]) for parts in zip(*drawn))
    if images.shape[1:] != finished.shape[1:]:
        ours, theirs = LabelledSets(finished, labels), LabelledSets(images, their_labels)
        return [(0, ours), (len(finished), theirs)]
    both = np.concatenate([finished, images]), np.concatenate([labels, their_labels])
    return [(0, LabelledSets(*both))]


def _kinds(condensed: Condensed, random_sets: int) -> dict[str, list[int]]:
    """Indices of the evaluated sets by kind: condensed, by swept values; and random real."""
    kinds: dict[str, list[int]] = {}
    all_sets = list_sets(condensed.config)
    for at, number in enumerate(condensed.finished):
        values = several_values(condensed.config, all_sets[number].swept)
        suffix = "".join(f", {name} {value:g}" for name, value in values.items())
        kinds.setdefault(f"condensed{suffix}", []).append(at)
    if random_sets:
        finished = len(condensed.finished)
        kinds["random real"] = list(range(finished, finished + random_sets))
    return kinds
