"""What a run's report says, gathered from its folder."""

import dataclasses
import json
import shlex
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gm_jax.checks import flag
from gm_jax.condensed import Condensed
from gm_jax.config import Config, list_sets, several_values
from gm_jax.data.images import denormalise
from gm_jax.errors import UserError
from gm_jax.evaluation.published import published
from gm_jax.report.page import render
from gm_jax.report.pictures import Picture, lines, strip
from gm_jax.storage import files, run_folder, snapshots

MOST_SETS = 8
"""Sets whose images are shown."""

MOST_IMAGES = 1000
"""Images that are shown of a set."""

MOST_CLASSES = 20
"""Classes that are shown along the way."""

MOST_ROWS = 12
"""Iterations that stand in a table."""


class ClassImages(NamedTuple):
    """The images of one class: as they were learned, and decoded where that is something else."""

    name: str
    learned: Picture | None
    images: Picture


class SetImages(NamedTuple):
    """The images of one set; `note` says what is not shown."""

    name: str
    classes: list[ClassImages]
    note: str


class Along(NamedTuple):
    """One image of each class along the way: `rows` has a picture for each of `iterations`."""

    iterations: list[int]
    rows: list[tuple[str, list[Picture]]]
    note: str


class Accuracy(NamedTuple):
    """A line of the table of accuracies, as texts."""

    network: str
    trained_on: str
    accuracy: str
    spread: str
    size: str


class Course(NamedTuple):
    """How the iterations went: plots, and some of their numbers as a table."""

    plots: list[Picture]
    head: list[str]
    rows: list[list[str]]


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
        sets=[_set_images(condensed, at) for at in condensed.finished[:MOST_SETS]],
        along=_along(condensed, snapshots.read(folder)),
        course=_course(condensed, metrics),
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
    for network, of in results.items():
        for kind, found in of.items():
            if network != "ran" and kind != "protocol":
                text = f"{found['mean']:.1f} ± {found['std']:.1f} %"
                facts.append(f"A fresh {network} trained on {kind} images reaches {text}.")
    return facts


def _paper(config: Config) -> Config:
    """The paper's settings for the same data, images, length, sets, and speed."""
    same = ("dataset", "image_size", "ipc", "iterations", "seed", "seeds")
    speed = ("precision", "convolution", "microbatch", "class_chunk", "set_chunk")
    return dataclasses.replace(Config(), **{name: getattr(config, name) for name in same + speed})


# --- images ---------------------------------------------------------------------------------------


def set_name(condensed: Condensed, number: int) -> str:
    """`Set 0 (seed 0, image_lr 0.1)`."""
    of_set = list_sets(condensed.config)[number]
    swept = several_values(condensed.config, of_set.swept)
    words = [f"seed {of_set.seed}", *(f"{name} {value:g}" for name, value in swept.items())]
    return f"Set {number} ({', '.join(words)})"


def _set_images(condensed: Condensed, number: int) -> SetImages:
    classes, shape = len(condensed.class_names), condensed.images.shape[2:]
    decoded = condensed.images[number].reshape(classes, -1, *shape)
    learned = None
    if condensed.learned is not None and condensed.learned.shape[3:] == shape:
        learned = condensed.learned[number]
    shown = max(1, MOST_IMAGES // classes)
    more = shown < decoded.shape[1]
    note = f"The first {shown} of {decoded.shape[1]} of each class." if more else ""
    pixels = lambda rows: denormalise(rows[:shown], condensed.mean, condensed.std)
    found = []
    for at, name in enumerate(condensed.class_names):
        images = strip(pixels(decoded[at]), f"{name}: images that networks are trained on")
        if learned is None:
            images = images._replace(text=f"{name}: learned images")
            found.append(ClassImages(name, None, images))
        else:
            own = strip(pixels(learned[at]), f"{name}: as it was learned")
            found.append(ClassImages(name, own, images))
    return SetImages(set_name(condensed, number), found, note)


def _along(condensed: Condensed, found: snapshots.Snapshots | None) -> Along | None:
    """Snapshots, and the images of the end."""
    if found is None or 0 not in condensed.finished:
        return None
    end = snapshots.first_of_each(condensed)
    if found.images.shape[1:] != end.shape:
        raise UserError(f"{snapshots.NAME} holds other images than the run: delete it")
    iterations = [*found.iterations.tolist(), condensed.config.iterations]
    images = np.concatenate([found.images, end[None]])
    names = condensed.class_names[:MOST_CLASSES]
    rows = [
        (
            name,
            [
                strip(images[when, at][None], f"{name} after {iterations[when]} iterations")
                for when in range(len(iterations))
            ],
        )
        for at, name in enumerate(names)
    ]
    all_classes = len(condensed.class_names)
    note = f"The first {len(names)} of {all_classes} classes." if len(names) < all_classes else ""
    return Along(iterations, rows, note)


# --- the iterations -------------------------------------------------------------------------------


def _course(condensed: Condensed, metrics: list[dict[str, Any]]) -> Course:
    """Plots over iterations: the loss, its two parts, and the inner epochs where there are any."""
    sets = [
        (of_set.seed, *several_values(condensed.config, of_set.swept).values())
        for of_set in list_sets(condensed.config)
    ]
    swept = list(several_values(condensed.config, list_sets(condensed.config)[0].swept))
    total = 1 + max((row["iteration"] for row in metrics), default=0)
    names = ("loss", "intra", "inter", "epochs")
    parts = {name: np.full((len(sets), total), np.nan) for name in names}
    for row in metrics:
        at = sets.index((row["seed"], *(row[name] for name in swept))), row["iteration"]
        for name in names[:-1]:
            parts[name][at] = row[name]
        parts["epochs"][at] = sum(row["inner_epochs"])
    x = np.arange(1, total + 1)
    known = ~np.isnan(parts["loss"]).all(0)
    x, parts = x[known], {name: values[:, known] for name, values in parts.items()}
    if not len(x):
        return Course([], [], [])
    means = {name: np.nanmean(values, 0) for name, values in parts.items()}
    return Course(_plots(x, parts, means), *_numbers(x, means))


def _plots(
    x: np.ndarray, parts: dict[str, np.ndarray], means: dict[str, np.ndarray]
) -> list[Picture]:
    losses = {"loss": parts["loss"], "within classes": parts["intra"]}
    losses["across classes"] = parts["inter"]
    ends = f"{means['loss'][0]:.4g} after iteration {x[0]}, {means['loss'][-1]:.4g} after {x[-1]}"
    found = [lines(x, losses, ("iteration", "matching loss"), f"The matching loss: {ends}.")]
    if np.nansum(parts["epochs"]):
        mean = f"{means['epochs'].mean():.1f} in an iteration, on average"
        series = {"inner epochs": parts["epochs"]}
        found.append(lines(x, series, ("iteration", "inner epochs"), f"Inner epochs: {mean}."))
    return found


def _numbers(x: np.ndarray, means: dict[str, np.ndarray]) -> tuple[list[str], list[list[str]]]:
    """Head and rows of a table: some iterations, the first and the last among them."""
    head = ["iteration", "loss", "within classes", "across classes", "inner epochs"]
    at = np.unique(np.linspace(0, len(x) - 1, MOST_ROWS).round().astype(int))
    names = ("loss", "intra", "inter")
    rows = [
        [str(x[i]), *(f"{means[name][i]:.4g}" for name in names), f"{means['epochs'][i]:.1f}"]
        for i in at
    ]
    return head, rows


# --- accuracies -----------------------------------------------------------------------------------


def _accuracies(config: Config, results: dict[str, Any]) -> list[Accuracy]:
    """What networks reached, and what was published for the same data and number of images."""
    found = []
    for network, of in results.items():
        for kind, result in of.items() if network != "ran" else ():
            if kind != "protocol":
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
    for network, of in results.items():
        for kind, result in of.items() if network != "ran" else ():
            if kind != "protocol" and "scores" in result:
                names = ("hlr", "ior", "lrs", "ars")
                text = ", ".join(f"{name.upper()} {result['scores'][name]:.3f}" for name in names)
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
