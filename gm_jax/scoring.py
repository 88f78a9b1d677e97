"""Evaluating condensed sets: fresh networks trained on them, and on random real images."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Key

from gm_jax import checks
from gm_jax.build import at_a_time, build_method, build_network, build_protocol, microbatch_of
from gm_jax.condensed import Condensed
from gm_jax.config import (
    Config,
    Evaluation,
    list_sets,
    several_values,
    swept_text,
    with_network,
)
from gm_jax.core.method import Variant, unchanged
from gm_jax.data.images import Dataset
from gm_jax.errors import UserError, of_variant
from gm_jax.evaluation import scores
from gm_jax.evaluation.coresets import full_set, random_real
from gm_jax.evaluation.protocol import (
    LabelledSets,
    Protocol,
    Summary,
    Trial,
    evaluate_sets,
    summarise,
    test_set,
)
from gm_jax.fit import check_network_fits
from gm_jax.nn import platforms
from gm_jax.nn.networks import Network
from gm_jax.parallel.meshes import make_mesh

RANDOM_REAL = "random real"
"""What a set of random real images is called."""


class Score(NamedTuple):
    """What networks of one architecture reached, trained on one kind of set.

    Attributes:
        network: the architecture, as `Evaluation.networks` names it.
        trained_on: `condensed`, with the values of swept settings; or `random real`.
        accuracies: on the test images, 0..1, `[sets, networks, tests]`: the last test of a network
            is that at the end of its training.
        protocol: how they were trained.
        fair: DD-Ranking's scores of a condensed kind, means over its networks; or `None`.
        full_accuracy: of a network trained on the whole training set, 0..1, that `fair` rests on.
    """

    network: str
    trained_on: str
    accuracies: Float[np.ndarray, "sets networks tests"]
    protocol: Protocol
    fair: scores.Scores | None = None
    full_accuracy: float | None = None

    @property
    def summary(self) -> Summary:
        """Mean and spread at the end of training, in percent."""
        return summarise(self.accuracies[..., -1])

    @property
    def best(self) -> Summary:
        """Mean and spread of the best test of each network: *chosen on the test images*."""
        return summarise(self.accuracies.max(-1))


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
        variant: what the sets were condensed with; its network, as it is with the first set's
            swept numbers, is trained unless `settings.networks` names others.
        progress: called as each network is tested.

    Returns:
        a score for each network and kind of set.

    Raises:
        UserError: a setting is not allowed, a network does not fit, or all sets diverged.
    """
    check_evaluation(condensed, dataset, settings, variant)
    config = condensed.config
    mean, std = (jnp.asarray(part, float) for part in (condensed.mean, condensed.std))
    dataset = dataset._replace(train=dataset.train._replace(mean=mean, std=std))
    base = _protocol(config, dataset, settings)
    random_key, networks_key = jax.random.split(evaluation_key(settings.seed))
    seeds = 0 if settings.skip_random_real else config.seeds
    groups = _sets_to_train_on(jax.random.split(random_key, seeds), condensed, dataset)
    kinds, test, found = _kinds(condensed, seeds), test_set(dataset), []
    with jax.default_matmul_precision(config.precision):
        for name, network in _networks(condensed, dataset, settings, variant).items():
            protocol = base._replace(microbatch=microbatch_of(config, name, dataset))
            trial = Trial(network, protocol, *test, settings.tests)
            train = functools.partial(_train, networks_key, settings, progress)
            accuracies, fair, full = train(trial, groups, settings.count), {}, None
            if settings.scores:
                other = trial._replace(protocol=_other_way(protocol, config, dataset), tests=1)
                ways = _ways(protocol, accuracies, train(other, groups, settings.count))
                full = settings.full_accuracy
                full = _full_accuracy(trial, dataset, settings, train) if full is None else full
                fair = _fair_scores(condensed, kinds, ways, full)
            found += [
                Score(name, kind, accuracies[of_kind], protocol, fair.get(kind), full)
                for kind, of_kind in kinds.items()
            ]
    return found


def evaluation_key(seed: int) -> Key[Array, ""]:
    """Of all draws of an evaluation: none is one of the condensation with the same seed.

    Condensing splits the seed's key in two (`build.start_sets`); this is the third part.
    """
    return jax.random.fold_in(jax.random.key(seed), 2)


def _train(
    key: jax.Array,
    settings: Evaluation,
    progress: Callable[[], None],
    trial: Trial,
    groups: list[LabelledSets],
    count: int,
) -> Float[np.ndarray, "sets networks tests"]:
    """Test accuracies of `count` fresh networks on each set."""
    chunk = at_a_time(settings.chunk, platforms.defaults().network_chunk)

    def run(sets: LabelledSets) -> np.ndarray:
        mesh = _mesh(settings, np.shape(sets.images)[0] * count)
        return evaluate_sets(key, trial, sets, count, chunk, progress, mesh)

    return np.concatenate(list(map(run, groups)))


def _mesh(settings: Evaluation, networks: int) -> Mesh | None:
    """The devices that so many networks are spread over; `None` for a single one."""
    there = jax.local_devices()
    used = min(settings.devices or len(there), networks)
    return None if used == 1 else make_mesh(there[:used], 1)


# --- DD-Ranking's scores --------------------------------------------------------------------------


def _other_way(protocol: Protocol, config: Config, dataset: Dataset) -> Protocol:
    """Without augmentation a protocol that has one; DSA's augmentation for one that has none."""
    augment = build_protocol("dsa", config, dataset).augment
    return protocol._replace(augment=augment if protocol.augment is None else None)


def _full_accuracy(trial: Trial, dataset: Dataset, settings: Evaluation, train: Callable) -> float:
    """Of one network trained on the whole training set, as its images are."""
    protocol = trial.protocol._replace(epochs=settings.full_epochs, augment=None)
    images, labels = full_set(dataset.train)
    groups = [LabelledSets(images[None], labels[None])]
    return float(train(trial._replace(protocol=protocol, tests=1), groups, 1)[0, 0, -1])


class _Ways(NamedTuple):
    """Accuracies `[sets, networks]`, of all sets that are evaluated, by how networks were trained.

    Attributes:
        own: by the protocol.
        plain: without augmentation.
        augmented: with it.
    """

    own: Float[np.ndarray, "sets networks"]
    plain: Float[np.ndarray, "sets networks"]
    augmented: Float[np.ndarray, "sets networks"]


def _ways(protocol: Protocol, own: np.ndarray, other: np.ndarray) -> _Ways:
    own, other = own[..., -1], other[..., -1]
    both = (own, other) if protocol.augment is None else (other, own)
    return _Ways(own, *both)


def _fair_scores(
    condensed: Condensed, kinds: dict[str, list[int]], ways: _Ways, full: float
) -> dict[str, scores.Scores]:
    """Scores of each kind of condensed set, means over its networks.

    Every network on a condensed set is paired with one on the random real images of its seed.

    Args:
        condensed: the sets.
        kinds: from `_kinds`.
        ways: accuracies.
        full: accuracy of a network trained on the whole training set.
    """
    config, finished = condensed.config, condensed.finished
    seeds = np.array([list_sets(config)[number].seed - config.seed for number in finished])
    found = {}
    for kind, members in kinds.items():
        if kind == RANDOM_REAL:
            continue
        random = len(finished) + seeds[members]
        of_runs = scores.scores(
            scores.Accuracies(
                real_hard=full,
                syn_hard=ways.own[members],
                syn_any=ways.own[members],
                rdm_any=ways.own[random],
                syn_aug=ways.augmented[members],
                rdm_aug=ways.augmented[random],
                syn_naug=ways.plain[members],
                rdm_naug=ways.plain[random],
            )
        )
        found[kind] = scores.Scores(*(float(np.mean(part)) for part in of_runs))
    return found


# --- what is trained, and on what -----------------------------------------------------------------


def _protocol(config: Config, dataset: Dataset, settings: Evaluation) -> Protocol:
    protocol = build_protocol(settings.protocol, config, dataset)
    return protocol._replace(epochs=settings.epochs or protocol.epochs)


def check_evaluation(
    condensed: Condensed, dataset: Dataset, settings: Evaluation, variant: Variant = unchanged
) -> None:
    """Raises `UserError` for the first thing that `evaluate` does not allow."""
    checks.check(settings)
    for what, held, found in (
        ("images of", condensed.images.shape[2:], dataset.image_shape),
        ("classes", condensed.class_names, dataset.class_names),
    ):
        if held != found:
            raise UserError(f"the sets hold {what} {held}, {dataset.name} has {found}")
    if not condensed.finished:
        raise UserError("every set diverged: there is nothing to evaluate")
    if (settings.devices or 1) > (there := jax.local_device_count()):
        raise UserError(f"--devices {settings.devices}: there are {there}")
    if settings.scores and settings.skip_random_real:
        raise UserError("--scores compares with random real images: leave --skip-random-real out")
    for name in ("full_epochs", "full_accuracy"):
        if not settings.scores and getattr(settings, name) != getattr(Evaluation, name):
            raise UserError(f"{checks.flag(name)} has no meaning without --scores")
    if settings.full_accuracy is not None and settings.full_epochs != Evaluation.full_epochs:
        raise UserError("--full-epochs has no meaning with --full-accuracy: choose one")
    if settings.full_accuracy is not None and len(settings.networks) > 1:
        raise UserError("--full-accuracy is that of one network: give one of --networks at a time")
    epochs = _protocol(condensed.config, dataset, settings).epochs
    if settings.tests > epochs:
        raise UserError(f"--tests {settings.tests}: at most {epochs}, the epochs of training")
    for config in _named_configs(condensed, settings).values() or (condensed.config,):
        check_network_fits(config, dataset)
    _networks(condensed, dataset, settings, variant)


def networks_to_train(condensed: Condensed, settings: Evaluation) -> int:
    """How many networks `evaluate` trains."""
    random_sets = 0 if settings.skip_random_real else condensed.config.seeds
    networks = (len(condensed.finished) + random_sets) * settings.count
    if settings.scores:
        networks = 2 * networks + (settings.full_accuracy is None)
    return networks * max(1, len(settings.networks))


def _networks(
    condensed: Condensed, dataset: Dataset, settings: Evaluation, variant: Variant
) -> dict[str, Network]:
    """The networks to train, by name: those that are named, or the run's own."""
    if named := _named_configs(condensed, settings):
        return {name: build_network(config, dataset) for name, config in named.items()}
    config = condensed.config
    with of_variant():
        return {config.network: variant(build_method(config, dataset)).network}


def _named_configs(condensed: Condensed, settings: Evaluation) -> dict[str, Config]:
    return {name: with_network(condensed.config, name) for name in settings.networks}


def _sets_to_train_on(
    keys: jax.Array, condensed: Condensed, dataset: Dataset
) -> list[LabelledSets]:
    """The condensed sets that are finished and the random real ones, in groups of one size each."""
    finished = condensed.images[condensed.finished]
    labels = np.tile(condensed.labels, (len(finished), 1))
    if not len(keys):
        return [LabelledSets(finished, labels)]
    drawn = [random_real(key, dataset.train, condensed.config.ipc) for key in keys]
    images, their_labels = (np.stack([np.asarray(p) for p in parts]) for parts in zip(*drawn))
    if images.shape[1:] != finished.shape[1:]:
        ours = LabelledSets(finished, labels)
        return [ours, LabelledSets(images, their_labels, first=len(finished))]
    both = np.concatenate([finished, images]), np.concatenate([labels, their_labels])
    return [LabelledSets(*both)]


def _kinds(condensed: Condensed, random_sets: int) -> dict[str, list[int]]:
    """Indices of the evaluated sets by kind: condensed, by swept values; and random real."""
    kinds: dict[str, list[int]] = {}
    all_sets = list_sets(condensed.config)
    for at, number in enumerate(condensed.finished):
        values = several_values(condensed.config, all_sets[number].swept)
        kinds.setdefault(f"condensed{swept_text(values)}", []).append(at)
    if random_sets:
        finished = len(condensed.finished)
        kinds[RANDOM_REAL] = list(range(finished, finished + random_sets))
    return kinds
