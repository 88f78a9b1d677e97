"""`gm-jax evaluate`: what fresh networks learn from a run's images."""

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gm_jax.cli.terminal import RunFolder, progress, say
from gm_jax.condensed import Synthetic, swept
from gm_jax.config import (
    MOST,
    Config,
    build_network,
    check_with,
    chosen,
    sets,
    with_network,
)
from gm_jax.data.images import Dataset
from gm_jax.data.loading import load, located
from gm_jax.errors import UserError
from gm_jax.evaluation.coresets import random_real
from gm_jax.evaluation.protocol import Protocol, evaluate_sets, paper_protocol, summarise, test_set
from gm_jax.nn import platforms
from gm_jax.storage import provenance, pt_file, run_folder


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Train fresh networks on a run's images, and on as many random real ones; print accuracies.

    Writes evaluation.json into the run folder, in place of an earlier one; for a .pt file,
    FILE.evaluation.json beside it.
    """

    run: RunFolder
    """Run folder that condense wrote, or a .pt file of the published PyTorch programs."""
    dataset: str | None = None
    """Data set to evaluate on. Default: the run's own; a .pt file does not name it."""
    networks: tuple[str, ...] = ()
    """Architectures to train, as condense knows them; of ConvNet also variants such as
    convnet:width=64,norm=batch. Default: the run's own."""
    count: int = 20
    """Fresh networks a set."""
    epochs: int | None = None
    """Epochs of training. Default: the paper's, 1000 with augmentation on MNIST, else 300."""
    seed: int = 0
    """Seed of the networks and of the random real images."""
    skip_random_real: bool = False
    """Train on the condensed images alone."""
    chunk: int | None = None
    """Networks at a time, for speed and memory alone; 0 is all at once. Default: 1 on a CPU, 20
    elsewhere."""


def evaluate(command: Evaluate) -> None:
    """Trains, prints a table, writes evaluation.json."""
    _check_evaluate(command)
    synthetic, dataset = _read(command)
    variants = {name: with_network(synthetic.config, name) for name in command.networks}
    variants = variants or {synthetic.config.network: synthetic.config}
    for variant in variants.values():
        check_with(variant, dataset)
    with _results_file(command) as results_path:
        results, protocol = _accuracies(command, synthetic, dataset, variants)
        ran = {"count": command.count, "seed": command.seed, "data": provenance.data(dataset)}
        run_folder.write_json(results_path, results | {"ran": ran | provenance.environment()})
    _print_accuracies(results, protocol)


def _accuracies(
    command: Evaluate, synthetic: Synthetic, dataset: Dataset, variants: dict[str, Config]
) -> tuple[dict[str, Any], Protocol]:
    """What each network reached on each kind of set, and how it was trained."""
    config, here = synthetic.config, platforms.here()
    protocol = paper_protocol(dataset, chosen(config.microbatch, here.microbatch))
    if command.epochs is not None:
        protocol = protocol._replace(epochs=command.epochs)
    chunk = chosen(command.chunk, here.network_chunk)
    random_key, networks_key = jax.random.split(jax.random.key(command.seed))
    seeds = 0 if command.skip_random_real else config.seeds
    trained_on = _with_random_real(jax.random.split(random_key, seeds), synthetic, dataset)
    test, results = test_set(dataset), {}
    with progress(len(trained_on[0]) * command.count * len(variants), "network") as bar:
        for name, variant in variants.items():
            network = build_network(variant, dataset)
            accuracies = evaluate_sets(
                networks_key, network, protocol, trained_on, test, command.count, chunk, bar.update
            )
            results[name] = _by_kind(synthetic, accuracies)
            results[name]["protocol"] = _describe_protocol(protocol)
    return results, protocol


def _read(command: Evaluate) -> tuple[Synthetic, Dataset]:
    """What is evaluated, and the data set with its pixels normalised as those images are."""
    if command.run.suffix == ".pt" and command.run.is_file():
        if command.dataset is None:
            raise UserError(f"{command.run} does not say of which data set it is: add --dataset")
        dataset = load(located(command.dataset), log=say)
        return pt_file.read(command.run, dataset), dataset
    synthetic = run_folder.read_synthetic(command.run)
    name = synthetic.config.dataset if command.dataset is None else located(command.dataset)
    dataset = load(name, synthetic.config.image_size, say)
    _compare(command.run, synthetic, dataset)
    train = dataset.train._replace(
        mean=jax.numpy.asarray(synthetic.mean, float), std=jax.numpy.asarray(synthetic.std, float)
    )
    return _without_diverged(command.run, synthetic), dataset._replace(train=train)


def _results_file(command: Evaluate) -> contextlib.AbstractContextManager[Path]:
    """Where the results go, nobody else writing there."""
    if command.run.suffix == ".pt" and command.run.is_file():
        return contextlib.nullcontext(command.run.with_name(f"{command.run.name}.evaluation.json"))
    return _locked(command.run)


@contextlib.contextmanager
def _locked(run: Path) -> Iterator[Path]:
    with run_folder.locked(run):
        yield run / "evaluation.json"


def _compare(run: Path, synthetic: Synthetic, dataset: Dataset) -> None:
    """Says if a data set is not what the images came from; refuses one that they do not fit."""
    for what, held, found in (
        ("images of", synthetic.images.shape[2:], dataset.image_shape),
        ("classes", synthetic.class_names, dataset.class_names),
    ):
        if held != found:
            raise UserError(f"{run} holds {what} {held}, {dataset.name} has {found}")
    now, then = provenance.data(dataset), run_folder.read_about(run)["data"]
    if changed := [part for part in ("train", "test") if now[part] != then[part]]:
        say(
            f"{run} is evaluated on other data than it was condensed from: of {dataset.name}, "
            f"the {' and '.join(changed)} images are others"
        )


def _without_diverged(run: Path, synthetic: Synthetic) -> Synthetic:
    """Says which sets diverged; raises `UserError` if all did."""
    for at in sorted(set(range(len(synthetic.images))) - set(synthetic.whole)):
        say(f"set {at} of {run} diverged at iteration {synthetic.iterations[at]}: left out")
    if not synthetic.whole:
        raise UserError(f"{run} holds no set that did not diverge")
    return synthetic


def _with_random_real(
    keys: jax.Array, synthetic: Synthetic, dataset: Dataset
) -> tuple[np.ndarray, np.ndarray]:
    """The condensed sets that are whole, then a set of random real images a key."""
    condensed = synthetic.images[synthetic.whole]
    images, labels = [condensed], [synthetic.labels] * len(condensed)
    for key in keys:
        x, y = random_real(key, dataset.train, synthetic.config.ipc)
        images.append(x[None])
        labels.append(y)
    return np.concatenate(images), np.stack(labels)


def _by_kind(synthetic: Synthetic, accuracies: np.ndarray) -> dict[str, Any]:
    """Accuracies by what the networks saw: condensed sets, swept values apart; real images."""
    kinds: dict[str, list[int]] = {}
    config, whole = synthetic.config, synthetic.whole
    all_sets = sets(config)
    for at, number in enumerate(whole):
        values = swept(config, all_sets[number][1])
        said = "".join(f", {name} {value:g}" for name, value in values.items())
        kinds.setdefault(f"condensed{said}", []).append(at)
    if real := list(range(len(whole), len(accuracies))):
        kinds["random real"] = real
    return {kind: _summarised(accuracies[of_kind]) for kind, of_kind in kinds.items()}


def _summarised(accuracies: np.ndarray) -> dict[str, Any]:
    """Every accuracy, 0..1, `[sets][networks]`, and their summary in percent."""
    return {"accuracies": accuracies.tolist()} | summarise(accuracies)._asdict()


def _check_evaluate(command: Evaluate) -> None:
    for flag in ("count", "epochs"):
        value = getattr(command, flag)
        if value is not None and not 1 <= value <= MOST:
            raise UserError(f"--{flag} {value}: must be 1 to {MOST}")
    if command.chunk is not None and not 0 <= command.chunk <= MOST:
        raise UserError(f"--chunk {command.chunk}: must be 0 to {MOST}")
    if not 0 <= command.seed < 2**32:
        raise UserError(f"--seed {command.seed}: must be 0 to 2**32 - 1")


def _describe_protocol(protocol: Protocol) -> dict[str, Any]:
    augment = None if protocol.augment is None else protocol.augment.__name__
    return protocol._asdict() | {"augment": augment}


def _print_accuracies(results: dict[str, Any], protocol: Protocol) -> None:
    kinds = [(name, kind) for name, result in results.items() for kind in result]
    kinds = [(name, kind) for name, kind in kinds if kind != "protocol"]
    wide = 2 + max(len(kind) for _, kind in kinds)
    long = max(10, 2 + max(map(len, results)))
    print(f"{'network':{long}}{'trained on':{wide}}{'test accuracy, %':20}{'sets x networks'}")
    for name, kind in kinds:
        found = results[name][kind]
        number, count = np.shape(found["accuracies"])
        shown = f"{found['mean']:.1f} +- {found['std']:.1f}"
        print(f"{name:{long}}{kind:{wide}}{shown:20}{number} x {count}")
    print(f"{protocol.epochs} epochs; +- is one standard deviation over all networks")
