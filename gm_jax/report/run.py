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
from gm_jax.report.course import Course, course
from gm_jax.report.images import MOST_SETS, Along, SetImages, images_along, set_images
from gm_jax.report.page import render
from gm_jax.storage import files, run_folder, snapshots


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
        along: images along the way, where snapshots were taken.
        course: of the iterations.
        accuracies: of networks; empty if none were trained.
        notes: on the accuracies.
        scores: DD-Ranking's, `(network and kind, its four numbers)`.
        settings: `(flag, value, whether it is not the default)`.
        command: that makes such a run.
        provenance: `(what, value)`.
    """

    title: str
    facts: list[str]
    sets: list[SetImages]
    along: Along | None
    course: Course
    accuracies: list[Accuracy]
    notes: list[str]
    scores: list[tuple[str, str]]
    settings: list[tuple[str, str, bool]]
    command: str
    provenance: list[tuple[str, str]]


def gather(folder: Path) -> RunReport:
    """Reads a finished run.

    Raises:
        UserError: it is none, or a file of it is damaged.
    """
    condensed, about = run_folder.read_condensed(folder), run_folder.read_about(folder)
    metrics = run_folder.read_metrics(folder)
    results = run_folder.read_results(folder)
    accuracies = _accuracies(condensed.config, results)
    dataset = Path(condensed.config.dataset).name
    each = "1 image" if condensed.config.ipc == 1 else f"{condensed.config.ipc} images"
    return RunReport(
        title=f"{dataset} in {each} a class",
        facts=_facts(condensed, about, metrics, results),
        sets=[set_images(condensed, at) for at in condensed.finished[:MOST_SETS]],
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
    method = f"the recipe {about['recipe']}" if about.get("recipe") else "the paper's method"
    if condensed.variant is not None:
        method = f"the variant {condensed.variant.name}"
    elif about.get("recipe") is None and config != _paper(config):
        method += ", with settings of its own"
    sets = f"{len(finished)} set{'s' * (len(finished) != 1)}"
    sets += f" ({len(diverged)} more diverged)" if diverged else ""
    minutes = metrics[-1]["seconds"] / 60 if metrics else 0.0
    facts = [learned, f"Condensed by {method}: {config.iterations:,} iterations, {sets}."]
    facts.append(f"The iterations took {minutes:.1f} minutes on {about['platform']['device']}.")
    for network, kind, found in _each(results):
        text = f"{found['mean']:.1f} ± {found['std']:.1f} %"
        facts.append(f"A fresh {network} trained on {kind} images reaches {text}.")
    return facts


def _paper(config: Config) -> Config:
    """The paper's settings for the same data, images, length, sets, and speed."""
    same = ("dataset", "image_size", "ipc", "iterations", "seed", "seeds")
    speed = ("precision", "convolution", "microbatch", "class_chunk", "set_chunk")
    return dataclasses.replace(Config(), **{name: getattr(config, name) for name in same + speed})


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
    words = f"{'/'.join(map(str, sorted(epochs)))} epochs by the protocol {ran['protocol']}"
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
            names = ("hlr", "ior", "lrs", "ars")
            text = ", ".join(f"{name.upper()} {scores[name]:.3f}" for name in names)
            found.append((f"{network}, {kind}", text))
    return found


# --- where it comes from --------------------------------------------------------------------------


def _settings(config: Config) -> list[tuple[str, str, bool]]:
    default = Config()
    return [
        (flag(name), _shown(value), value != getattr(default, name))
        for name, value in dataclasses.asdict(config).items()
    ]


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
        draft.write_text(text)
