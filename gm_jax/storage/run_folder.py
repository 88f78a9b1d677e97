"""Run folders: what a run leaves on disk, written atomically.

config.json      every setting, and where the run comes from: versions, machine, commit, data
metrics.jsonl    a line an iteration
snapshots.npz    images along the way; see `snapshots`
synthetic.npz    the condensed images; it is there once the run is finished
grid.png         the same to look at
evaluation.json  accuracies of fresh networks
report.html      all of this to read
checkpoints/     of a run that is not finished
replaced/        the finished run that was here before, until this one is finished

What is written and how it is named is here; `reading` validates what is there, `locking` keeps a
second writer out, `replacing` begins a run where another one was.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from gm_jax.condensed import Condensed
from gm_jax.config import Config
from gm_jax.data.images import Dataset
from gm_jax.storage import provenance
from gm_jax.storage.files import atomic
from gm_jax.variants import VariantRecord

FORMAT = 4
"""Version of the run folder's layout."""

READ = (3, 4)
"""Layouts that are read: finished runs of layout 3 too, which gm_jax 0.1 wrote."""

FILES = (
    "config.json",
    "metrics.jsonl",
    "snapshots.npz",
    "grid.png",
    "evaluation.json",
    "report.html",
    "synthetic.npz",
)


def finished(folder: Path) -> bool:
    """Whether a run folder holds a finished run."""
    return (folder / "synthetic.npz").exists()


def results_path(run: Path) -> Path:
    """Where the results of an evaluation lie: in a run folder, or beside a single file."""
    return (
        run.with_name(f"{run.name}.evaluation.json") if run.is_file() else run / "evaluation.json"
    )


def append_metrics(folder: Path, rows: list[dict[str, Any]]) -> None:
    """A line a row at the end of metrics.jsonl."""
    with (folder / "metrics.jsonl").open("a") as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows))


def write_condensed(folder: Path, condensed: Condensed, about: dict[str, Any]) -> None:
    """synthetic.npz; arrays and text only, nothing pickled.

    Args:
        folder: of the run.
        condensed: the sets.
        about: what config.json holds.
    """
    arrays: dict[str, Any] = condensed._asdict() | {
        "class_names": np.array(condensed.class_names),
        "config": np.array(json.dumps(about)),
    }
    del arrays["variant"]  # config has it
    if condensed.learned is None:
        del arrays["learned"]
    with atomic(folder / "synthetic.npz") as draft:
        np.savez_compressed(draft, **arrays)


def describe(
    config: Config, dataset: Dataset, variant: VariantRecord | None, recipe: str | None = None
) -> dict[str, Any]:
    """What config.json holds of a run that begins now, in JSON's types.

    `continued` gets an entry each time that the run is resumed in another environment.
    """
    about: dict[str, Any] = {"format": FORMAT, "settings": dataclasses.asdict(config)}
    about |= {"recipe": recipe, "variant": None if variant is None else variant._asdict()}
    about |= provenance.environment()
    about |= {"data": provenance.data(dataset), "continued": []}
    return json.loads(json.dumps(about))


def identity(about: dict[str, Any]) -> dict[str, Any]:
    """What makes a run this run: its settings, variant and training data."""
    return {name: about[name] for name in ("settings", "variant")} | {
        "train": about["data"]["train"]
    }


PLANNED = "planned_iterations"
"""What config.json keeps, of a run that was ended early, beside the iterations that were done."""


def ended(about: dict[str, Any], done: int) -> dict[str, Any]:
    """What config.json holds of a run that ends early, after `done` iterations."""
    settings = about["settings"]
    return about | {
        "settings": settings | {"iterations": done},
        PLANNED: settings["iterations"],
    }


def as_planned(about: dict[str, Any]) -> dict[str, Any]:
    """What `ended` was made from; in an unfinished run, it was cut off before the end."""
    if PLANNED not in about:
        return about
    before = {name: value for name, value in about.items() if name != PLANNED}
    return before | {"settings": about["settings"] | {"iterations": about[PLANNED]}}
