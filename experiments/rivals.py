"""Coresets and the whole training set, evaluated as condensed sets are: the rivals in a table."""

import functools
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np

from experiments.sweep import Found, Scale, config, loaded
from gm_jax.config import Config, build_network, check
from gm_jax.data.images import ClassImages, Dataset, normalise
from gm_jax.evaluation.coresets import Set, chosen_real, features, herding, k_center, random_real
from gm_jax.evaluation.protocol import Protocol, evaluate_sets, paper_protocol, test_set, train
from gm_jax.nn import platforms
from gm_jax.nn.networks import Network
from gm_jax.storage import run_folder

WHOLE = "whole set"
RIVALS = ("random", "herding", "k-center", WHOLE)

FEATURE_EPOCHS = 20
"""Of the networks, trained on the whole set, by whose features herding and k-center choose."""


def rival(kind: str, scale: Scale, column: str, whole_epochs: int) -> Found:
    """One rival on one data set and ipc; a finished one is read.

    Args:
        kind: one of `RIVALS`.
        scale: data set, ipc, seeds, networks, epochs.
        column: of the table.
        whole_epochs: epochs of evaluation on the whole training set, which is many steps each.
    """
    print(f"{kind}, {column}", file=sys.stderr, flush=True)
    settings = config(scale)
    check(settings)
    of = scale.dataset if kind == WHOLE else column
    path = scale.out / "cells" / f"{kind} {of}.json".replace(" ", "_")
    asked = {"kind": kind, "dataset": scale.dataset, "count": scale.count, "smoke": scale.smoke}
    asked |= {"epochs": whole_epochs} if kind == WHOLE else {"epochs": scale.epochs}
    asked |= {} if kind == WHOLE else {"ipc": scale.ipc, "seeds": scale.seeds}
    if not (path.exists() and json.loads(path.read_text())["asked"] == asked):
        accuracies, epochs = _evaluate(kind, scale, settings, whole_epochs)
        path.parent.mkdir(parents=True, exist_ok=True)
        found = {"asked": asked, "epochs": epochs, "accuracies": accuracies.tolist()}
        run_folder.write_json(path, found)
    held = json.loads(path.read_text())
    accuracies = np.array(held["accuracies"])
    return Found(kind, column, settings.network, accuracies, None, held["epochs"], 0.0, 0.0)


def _evaluate(
    kind: str, scale: Scale, settings: Config, whole_epochs: int
) -> tuple[np.ndarray, int]:
    dataset = loaded(scale.dataset)
    network = build_network(settings, dataset)
    here = platforms.defaults()
    protocol = paper_protocol(dataset, here.microbatch)
    epochs = whole_epochs if kind == WHOLE else scale.epochs or protocol.epochs
    protocol = protocol._replace(epochs=epochs)
    keys = jax.random.split(jax.random.key(settings.seed), 1 + scale.seeds)
    sets = [choose(kind, key, network, dataset, scale.ipc) for key in keys[1:]]
    if kind == WHOLE:
        sets = sets[:1]  # they are all the same
    images, labels = (jnp.stack(part) for part in zip(*sets))
    accuracies = evaluate_sets(
        keys[0],
        network,
        protocol,
        (images, labels),
        test_set(dataset),
        scale.count,
        here.network_chunk,
    )
    return accuracies, epochs


def choose(kind: str, key: jax.Array, network: Network, dataset: Dataset, ipc: int) -> Set:
    """The images of one rival set."""
    if kind == "random":
        return random_real(key, dataset.train, ipc)
    whole = whole_set(dataset.train)
    if kind == WHOLE:
        return whole
    protocol = Protocol(FEATURE_EPOCHS, microbatch=platforms.defaults().microbatch)
    state, _ = jax.jit(lambda key, x, y: train(key, network, protocol, x, y))(key, *whole)
    of = functools.partial(features, network, state.params, state.stats)
    chooser = {"herding": herding, "k-center": k_center}[kind]
    return jax.jit(lambda data: chosen_real(chooser, of, data, ipc))(dataset.train)


def whole_set(data: ClassImages) -> Set:
    """All real images, class after class."""
    images, counts = np.asarray(data.images), np.asarray(data.counts)
    rows = np.concatenate([row[:count] for row, count in zip(images, counts)])
    labels = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    return normalise(jnp.asarray(rows), data.mean, data.std), jnp.asarray(labels)
