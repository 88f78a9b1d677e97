"""`gm-jax evaluate`: what fresh networks learn from a run's images."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gm_jax import checks, scoring
from gm_jax.cli.commands import Evaluate
from gm_jax.cli.terminal import progress, say
from gm_jax.condensed import Condensed
from gm_jax.core.method import Variant, unchanged
from gm_jax.data.images import Dataset
from gm_jax.data.loading import absolute, is_resized, load
from gm_jax.errors import UserError
from gm_jax.evaluation.protocol import Protocol
from gm_jax.storage import files, locking, provenance, pt_file, reading, run_folder
from gm_jax.variants import describe_named, load_variant


def evaluate(command: Evaluate) -> None:
    """Trains, prints a table, writes evaluation.json."""
    checks.check(command)
    condensed, dataset = _read(command)
    variant, settings = _variant(command, condensed), command.settings
    scoring.check_evaluation(condensed, dataset, settings, variant)
    data = provenance.data(dataset)
    if not _is_pt(command.run):
        _note(command.run, condensed, data)
    with (
        _results_file(command.run) as results_path,
        progress(scoring.networks_to_train(condensed, settings), "network") as bar,
    ):
        scores = scoring.evaluate(condensed, dataset, settings, variant, bar.update)
        ran: dict[str, Any] = {"protocol": settings.protocol, "count": settings.count}
        ran |= {"seed": settings.seed, "data": data} | provenance.environment()
        _print_scores(scores)
        files.write_json(results_path, results(scores) | {"ran": ran})
        if command.run.is_dir():
            (command.run / "report.html").unlink(missing_ok=True)  # it was of the results before


def results(scores: list[scoring.Score]) -> dict[str, Any]:
    """What evaluation.json holds: by network and by what it was trained on."""
    found: dict[str, Any] = {}
    for score in scores:
        of_network = found.setdefault(score.network, {"protocol": _protocol(score.protocol)})
        accuracies: dict[str, Any] = {"accuracies": score.accuracies[..., -1].tolist()}
        if score.accuracies.shape[-1] > 1:
            accuracies["best_on_test_images"] = score.best._asdict()
            accuracies["accuracies_of_all_tests"] = score.accuracies.tolist()
        if score.fair is not None:
            accuracies["scores"] = score.fair._asdict() | {"full_accuracy": score.full_accuracy}
        of_network[score.trained_on] = accuracies | score.summary._asdict()
    return found


def _protocol(protocol: Protocol) -> dict[str, Any]:
    augmented, drops = protocol.augment is not None, protocol.drops_after()
    return protocol._asdict() | {"augment": augmented, "drops": drops}


def _read(command: Evaluate) -> tuple[Condensed, Dataset]:
    """What is evaluated, and the data set that it is evaluated on."""
    if _is_pt(command.run):
        if command.dataset is None:
            raise UserError(f"{command.run} does not name its data set: add --dataset")
        dataset = load(absolute(command.dataset))
        return pt_file.read(command.run, dataset), dataset
    condensed = reading.load_condensed(command.run)
    name = condensed.config.dataset if command.dataset is None else absolute(command.dataset)
    return condensed, load(name, condensed.config.image_size if is_resized(name) else None)


def _is_pt(run: Path) -> bool:
    return run.suffix == ".pt" and run.is_file()


def _variant(command: Evaluate, condensed: Condensed) -> Variant:
    """The variant that the run was condensed with, whose network is trained."""
    record = condensed.variant
    if record is None or command.settings.networks:
        return unchanged
    try:
        variant = load_variant(record.name)
    except UserError as error:
        raise UserError(f"{error}; --networks NAME trains a network of gm_jax") from error
    if describe_named(record.name) != record:
        say(f"{record.name} has changed since {command.run} was condensed with it")
    return variant


@contextlib.contextmanager
def _results_file(run: Path) -> Iterator[Path]:
    """Where the results go, locked against other writers."""
    path = run_folder.results_path(run)
    if path.is_dir():
        raise UserError(f"{path} is a folder: move it away")
    if run.is_file():
        if not os.access(run.parent, os.W_OK):
            raise UserError(f"{path} cannot be written: copy {run.name} elsewhere")
        yield path
        return
    with locking.locked(run):
        yield path


def _note(run: Path, condensed: Condensed, now: dict[str, Any]) -> None:
    """Says which sets are left out, and that a data set is not what the images came from."""
    for number in condensed.diverged:
        say(f"set {number} of {run} diverged at iteration {condensed.iterations[number]}: left out")
    then = reading.read_about(run)["data"]
    if changed := [part for part in ("train", "test") if now[part] != then[part]]:
        say(
            f"{run} is evaluated on other data than it was condensed from: the "
            f"{' and '.join(changed)} images of {now['name']} differ"
        )


def _print_scores(scores: list[scoring.Score]) -> None:
    wide = 2 + max(len(score.trained_on) for score in scores)
    long = max(10, 2 + max(len(score.network) for score in scores))
    print(f"{'network':{long}}{'trained on':{wide}}{'test accuracy, %':20}{'sets x networks'}")
    for score in scores:
        sets, networks, _ = score.accuracies.shape
        shown = f"{score.summary.mean:.1f} +- {score.summary.std:.1f}"
        print(f"{score.network:{long}}{score.trained_on:{wide}}{shown:20}{sets} x {networks}")
    epochs = scores[0].protocol.epochs
    print(f"{epochs} epochs; +- is one standard deviation over all networks")
    for score in scores:
        name, tests = f"{score.network}, {score.trained_on}", score.accuracies.shape[-1]
        if tests > 1:
            best = f"{score.best.mean:.1f} +- {score.best.std:.1f}"
            print(f"{name}: {best} at the best of {tests} tests, chosen on the test images")
        if score.fair is not None:
            parts = {part.upper(): getattr(score.fair, part) for part in reading.SCORES}
            fair = ", ".join(f"{part} {value:.3f}" for part, value in parts.items())
            print(f"{name}: {fair} (HLR: lower is better; the others: higher)")
