"""Rows to compare a method with: coresets and the full training set, evaluated in the same way."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.sweep import Found, Scale, config, file_name, load_once
from gm_jax.build import build_network, microbatch_of
from gm_jax.cli.terminal import say
from gm_jax.config import Config, check
from gm_jax.data.images import Dataset
from gm_jax.errors import UserError
from gm_jax.evaluation.coresets import Set, full_set, herding, k_center, random_real, select_real
from gm_jax.evaluation.protocol import (
    LabelledSets,
    Protocol,
    Trial,
    evaluate_sets,
    paper_protocol,
    test_set,
    train,
)
from gm_jax.nn import platforms
from gm_jax.nn.networks import Network
from gm_jax.storage import files, provenance

FULL = "full set"
RIVALS = ("random", "herding", "k-center", FULL)

FEATURE_EPOCHS = 20
"""Epochs on the full set of the networks whose features herding and k-center choose by."""


def rival(kind: str, scale: Scale, column: str, full_epochs: int) -> Found:
    """One rival on one data set and ipc; a finished one is only read.

    Args:
        kind: one of `RIVALS`.
        scale: data set, ipc, seeds, networks, epochs.
        column: of the table.
        full_epochs: epochs of evaluation on the full training set, which are many steps each.
    """
    say(f"{kind}, {column}")
    settings = config(scale)
    check(settings)
    name = scale.dataset if kind == FULL else column
    path = scale.folder / "cells" / file_name(f"{kind} {name}.json")
    asked = {"kind": kind, "dataset": scale.dataset, "count": scale.count, "smoke": scale.smoke}
    asked |= {"epochs": full_epochs} if kind == FULL else {"epochs": scale.epochs}
    asked |= {} if kind == FULL else {"ipc": scale.ipc, "seeds": scale.seeds}
    asked |= {"data": provenance.data(load_once(scale.dataset))}
    found = _read(path, asked)
    if found is None:
        accuracies, epochs = _evaluate(kind, scale, settings, full_epochs)
        path.parent.mkdir(parents=True, exist_ok=True)
        held = {"asked": asked, "epochs": epochs, "accuracies": accuracies.tolist()}
        files.write_json(path, held)
        found = accuracies, epochs
    return Found(kind, column, settings.network, found[0], None, found[1], 0.0, 0.0)


def _read(path: Path, asked: dict[str, Any]) -> tuple[np.ndarray, int] | None:
    """Accuracies and epochs of a file, `None` unless it is of what is asked."""
    held: Any = files.read_json(path) if path.exists() else {"asked": None}
    try:
        if held["asked"] != asked:
            return None
        return np.array(held["accuracies"], float), int(held["epochs"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is damaged: delete it") from error


def _evaluate(
    kind: str, scale: Scale, settings: Config, full_epochs: int
) -> tuple[np.ndarray, int]:
    dataset, defaults = load_once(scale.dataset), platforms.defaults()
    network = build_network(settings, dataset)
    protocol = paper_protocol(dataset)
    epochs = full_epochs if kind == FULL else scale.epochs or protocol.epochs
    microbatch = microbatch_of(settings, settings.network, dataset)
    protocol = protocol._replace(epochs=epochs, microbatch=microbatch)
    networks_key, *keys = jax.random.split(jax.random.key(settings.seed), 1 + scale.seeds)
    keys = keys[:1] if kind == FULL else keys  # there is only one full set
    sets = [choose(kind, key, network, dataset, scale.ipc, microbatch) for key in keys]
    images, labels = (jnp.stack(part) for part in zip(*sets))
    stacked = LabelledSets(images, labels)
    trial = Trial(network, protocol, *test_set(dataset))
    chunk = defaults.network_chunk
    return evaluate_sets(networks_key, trial, stacked, scale.count, chunk)[..., -1], epochs


def choose(
    kind: str,
    key: jax.Array,
    network: Network,
    dataset: Dataset,
    ipc: int,
    microbatch: int | None,
) -> Set:
    """The images and labels of one rival."""
    if kind == "random":
        return random_real(key, dataset.train, ipc)
    full = full_set(dataset.train)
    if kind == FULL:
        return full
    protocol = Protocol(FEATURE_EPOCHS, microbatch=microbatch)
    state, _ = jax.jit(lambda key, x, y: train(key, network, protocol, x, y))(key, *full)
    features_of = lambda x: network.features(state.params, state.stats, x)
    chooser = {"herding": herding, "k-center": k_center}[kind]
    return jax.jit(lambda data: select_real(chooser, features_of, data, ipc))(dataset.train)
