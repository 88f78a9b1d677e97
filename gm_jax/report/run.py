"""What a run's report says, gathered from its folder."""

import dataclasses
import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gm_jax.checks import flag
from gm_jax.condensed import Condensed
from gm_jax.config import Config
from gm_jax.evaluation.published import published
from gm_jax.recipes import RECIPES, recipe
from gm_jax.report.course import Course, course
from gm_jax.report.images import Along, SetImages, images_along, list_images
from gm_jax.report.page import render
from gm_jax.storage import files, reading, run_folder, snapshots


class Accuracy(NamedTuple):
    """A line of the table of accuracies, as texts."""

    network: str
    trained_on: str
    accuracy: str
    spread: str
    size: str


class RunReport(NamedTuple):
    """All that a report of a run says.

    Attributes:
        title: of the page.
        facts: what one wants to know first, a sentence each.
        sets: images.
        more_sets: sets that are not shown, and why; or nothing.
        along: images along the way, where snapshots were taken.
        course: of the iterations.
        accuracies: of networks; empty if none were trained.
        notes: on the accuracies.
        scores: DD-Ranking's, `(network and kind, its four numbers)`.
        settings: `(flag, value, the default where it is another)`.
        command: that makes such a run.
        provenance: `(what, value)`.
    """

    title: str
    facts: list[str]
    sets: list[SetImages]
    more_sets: str
    along: Along | None
    course: Course
    accuracies: list[Accuracy]
    notes: list[str]
    scores: list[tuple[str, str]]
    settings: list[tuple[str, str, str]]
    command: str
    provenance: list[tuple[str, str]]


def gather(folder: Path) -> RunReport:
    """Reads a finished run.

    Raises:
        UserError: it is none, or a file of it is damaged.
    """
    condensed, about = reading.load_condensed(folder), reading.read_about(folder)
    metrics = reading.read_metrics(folder)
    results, sets = reading.read_results(folder), list_images(condensed)
    accuracies = _accuracies(condensed.config, results)
    dataset = Path(condensed.config.dataset).name
    each = "1 image" if condensed.config.ipc == 1 else f"{condensed.config.ipc} images"
    return RunReport(
        title=f"{dataset} in {each} a class",
        facts=_facts(condensed, about, metrics, results),
        sets=sets,
        more_sets=_more_sets(condensed, len(sets)),
        along=images_along(condensed, snapshots.read(folder)),
        course=course(condensed, metrics),
        accuracies=accuracies,
        notes=_notes(folder, accuracies, results),
        scores=_scores(results),
        settings=_settings(condensed.config),
        command=command_of(condensed, folder),
        provenance=_provenance(about),
    )


# --- in a few words -------------------------------------------------------------------------------


def _facts(
    condensed: Condensed, about: dict[str, Any], metrics: list[dict[str, Any]], results: dict
) -> list[str]:
    config, finished, diverged = condensed.config, condensed.finished, condensed.diverged
    classes = len(condensed.class_names)
    learned = f"{classes * config.ipc} learned images stand for "
    learned += f"{sum(about['data']['counts']):,} real ones of {classes} classes."
    sets = f"{len(finished) + len(diverged)} set{'s' * (len(finished) + len(diverged) != 1)}"
    sets += f", of which {len(diverged)} diverged" if diverged else ""
    minutes = metrics[-1]["seconds"] / 60 if metrics else 0.0
    facts = [learned]
    done = f"{config.iterations:,}"
    if planned := about.get(run_folder.PLANNED):
        done += f" of {planned:,}"
    facts.append(f"Condensed by {_method(condensed, about)}: {done} iterations, {sets}.")
    runs = (about, *about["continued"])
    devices = " and ".join(dict.fromkeys(ran["platform"]["device"] for ran in runs))
    took = f"The iterations took {minutes:.1f} minutes on {devices}"
    facts.append(f"{took}, compilation included.")
    for network, kind, found in _each(results):
        text = f"{found['mean']:.1f} ± {found['std']:.1f} %"
        what, _, values = kind.partition(", ")
        values = f" ({values})" if values else ""
        facts.append(f"A fresh {network} trained on {what} images{values} reaches {text}.")
    return facts


def _more_sets(condensed: Condensed, shown: int) -> str:
    more = len(condensed.finished) - shown
    notes = [f"{more} more sets are not shown."] if more else []
    notes += [
        f"Set {number} diverged at iteration {condensed.iterations[number]}, and is not shown."
        for number in condensed.diverged
    ]
    return " ".join(notes)


def _method(condensed: Condensed, about: dict[str, Any]) -> str:
    """By what it was condensed: a variant, a recipe, or the paper's method, changed or not."""
    config, name = condensed.config, about.get("recipe")
    plain = Config()
    if name in RECIPES:
        plain = recipe(name, about["data"]["name"], config.ipc, config.factor)
    same = ("dataset", "image_size", "ipc", "iterations", "seed", "seeds")
    speed = ("precision", "convolution", "microbatch", "class_chunk", "set_chunk")
    plain = dataclasses.replace(plain, **{field: getattr(config, field) for field in same + speed})
    base = "the paper's method" if name is None else f"the recipe {name}"
    if config != plain and (name is None or name in RECIPES):  # else a later version's
        base += ", with other settings"
    return base if condensed.variant is None else f"the variant {condensed.variant.name} of {base}"


# --- accuracies -----------------------------------------------------------------------------------


def _each(results: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Network, what it was trained on, and what it reached."""
    for network, of in results.items():
        for kind, found in of.items() if network != "ran" else ():
            if kind != "protocol":
                yield network, kind, found


def _accuracies(config: Config, results: dict[str, Any]) -> list[Accuracy]:
    """What networks reached, and what was published for the same data and number of images."""
    found = []
    for network, kind, result in _each(results):
        sets, networks = np.asarray(result["accuracies"]).shape
        mean, spread = f"{result['mean']:.1f}", f"{result['std']:.1f}"
        found.append(Accuracy(network, kind, mean, spread, f"{sets} x {networks}"))
    if found:
        for method, text in published(config.dataset, config.ipc).items():
            mean, _, spread = text.partition(" ± ")
            found.append(Accuracy("convnet", f"{method}, published", mean, spread, ""))
    return found


def _notes(folder: Path, accuracies: list[Accuracy], results: dict[str, Any]) -> list[str]:
    if not accuracies:
        return [f"No networks were trained on these images yet: gm-jax evaluate {folder}"]
    ran = results["ran"]
    epochs = {of["protocol"]["epochs"] for name, of in results.items() if name != "ran"}
    named = ran.get("protocol", "paper")
    words = f"{'/'.join(map(str, sorted(epochs)))} epochs by the protocol {named}"
    notes = [
        f"Test accuracy in percent at the end of training, {words}; ± is one standard deviation "
        "over all networks."
    ]
    if any("published" in one.trained_on for one in accuracies):
        notes.append(
            "Published numbers are their authors' own (DC, DSA: as quoted in arXiv 2107.13034; "
            "IDC: its readme), of 1000 iterations and more; their spread is over networks."
        )
    return notes


def _scores(results: dict[str, Any]) -> list[tuple[str, str]]:
    found = []
    for network, kind, result in _each(results):
        if scores := result.get("scores"):
            text = ", ".join(f"{name.upper()} {scores[name]:.3f}" for name in reading.SCORES)
            found.append((f"{network}, {kind}", text))
    return found


# --- where it comes from --------------------------------------------------------------------------


def _settings(config: Config) -> list[tuple[str, str, str]]:
    found = []
    for name, default in vars(Config()).items():
        value = getattr(config, name)
        found.append((flag(name), _shown(value), "" if value == default else _shown(default)))
    return found


def _shown(value: Any) -> str:
    if value is None:
        return "by default"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def command_of(condensed: Condensed, folder: Path) -> str:
    """The command line that makes such a run into a folder."""
    words = ["gm-jax", "condense"]
    for field in dataclasses.fields(Config):
        value = getattr(condensed.config, field.name)
        if value == field.default:
            continue
        words.append(flag(field.name))
        if value is not True:
            words += map(str, value) if isinstance(value, tuple) else [str(value)]
    if condensed.variant is not None:
        words += ["--variant", condensed.variant.name]
    return shlex.join([*words, "--out", str(folder)])


def _provenance(about: dict[str, Any]) -> list[tuple[str, str]]:
    found = [("commit of gm_jax", about["commit"] or "unknown")]
    found += [(name, version) for name, version in about["versions"].items()]
    found += [(name, str(value)) for name, value in about["platform"].items()]
    if about["variant"] is not None:
        found += [(f"variant, {name}", str(value)) for name, value in about["variant"].items()]
    data = about["data"]
    found += [("training images, SHA-256", data["train"]), ("test images, SHA-256", data["test"])]
    for later in about["continued"]:
        versions = json.dumps(later["versions"] | later["platform"])
        found.append((f"resumed at iteration {later['iteration']} with", versions))
    return found


def write(report: RunReport, path: Path) -> None:
    """The report as one HTML file, written atomically."""
    text = render("run.html", report=report)
    with files.atomic(path) as draft:
        draft.write_text(text, encoding="utf-8", errors="backslashreplace")
