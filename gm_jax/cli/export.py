"""`gm-jax show` and `gm-jax export`: a run's images to look at, and for other programs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gm_jax.cli.commands import Export, Show
from gm_jax.cli.terminal import say
from gm_jax.condensed import Condensed
from gm_jax.data.images import denormalise
from gm_jax.disk import new_folder
from gm_jax.errors import UserError, require
from gm_jax.storage import files, locking, pictures, pt_file, reading


def show(command: Show) -> None:
    """Draws the picture and prints its path."""
    path = command.out or _picture_of(command.run)
    if not path.name or path.is_dir():
        raise UserError(f"--out {path} is a folder: name a file")
    if path.suffix.lower() != ".png":
        raise UserError(f"--out {path}: the picture is a PNG, so name it .png")
    with locking.locked_for(path, command.run):
        condensed = reading.load_condensed(command.run)
        _note_diverged(condensed)
        try:
            pictures.save_grid(path, condensed, command.set)
        except OSError as error:
            raise UserError(f"{path} cannot be written: {error.strerror or error}") from error
    print(path)


def _picture_of(run: Path) -> Path:
    """Of a run folder, its grid.png; of FILE.npz, FILE.png, and .png after any other name."""
    if not run.is_file():
        return run / "grid.png"
    return run.with_name(f"{run.name.removesuffix('.npz')}.png")


def export(command: Export) -> None:
    """Writes into a new folder beside `out`, then gives it that name."""
    condensed = reading.load_condensed(command.run)
    _note_diverged(condensed)
    if not condensed.finished:
        raise UserError(f"{command.run} holds no set that did not diverge: nothing to export")
    if command.to == "pt":
        _export_pt(command, condensed)
        return
    out, write = command.out, _FOLDERS[command.to]
    try:
        with new_folder(out) as draft:
            write(draft, condensed)
    except OSError as error:
        raise UserError(f"--out {out} cannot be written: {error.strerror or error}") from error
    print(f"{len(condensed.finished) * condensed.images.shape[1]} images: {command.out}")


def _export_pt(command: Export, condensed: Condensed) -> None:
    out = command.out
    if out.exists():
        raise UserError(f"--out {out} exists: name another file")
    require("torch", "torch")
    found = accuracies(reading.read_results(command.run))
    out.parent.mkdir(parents=True, exist_ok=True)
    with files.atomic(out) as draft:
        pt_file.write(draft, condensed, found)
    print(f"{len(condensed.finished)} sets: {out}")


def accuracies(results: dict[str, Any]) -> dict[str, list[float]]:
    """Of networks trained on condensed sets, by architecture; none if they were not evaluated."""
    return {
        name: np.ravel(np.asarray(result["condensed"]["accuracies"], float)).tolist()
        for name, result in results.items()
        if "condensed" in result
    }


def _write_png(folder: Path, condensed: Condensed) -> None:
    pixels = denormalise(condensed.images, condensed.mean, condensed.std)
    finished = pixels[condensed.finished]
    arrays = {"images": finished, "labels": condensed.labels}
    if condensed.learned is not None:
        arrays["learned"] = condensed.learned[condensed.finished]
    np.savez_compressed(folder / "images.npz", allow_pickle=False, **arrays)
    names = folder_names(condensed.class_names)
    per_class = len(condensed.labels) // len(names)
    for number, of_set in zip(condensed.finished, finished):
        for index, (image, label) in enumerate(zip(of_set, condensed.labels)):
            path = folder / f"set{number}" / names[label]
            path.mkdir(parents=True, exist_ok=True)
            pictures.save_image(path / f"{index % per_class:03}.png", image)


_FOLDERS = {
    "png": _write_png,
    "dc-bench": pt_file.write_dc_bench,
    "dd-ranking": pt_file.write_dd_ranking,
}
"""What fills the folder, by --to: `(folder, condensed)`."""


def folder_names(class_names: Sequence[str]) -> list[str]:
    """A name for each class's folder: its own where that can be one anywhere, else by its number.

    Letters, digits, blanks and `-_.+` stay, others become `_`; what comes out empty, hidden, too
    long, or a second time gets the class's number in front.
    """
    names: list[str] = []
    for label, name in enumerate(class_names):
        plain = "".join(c if c.isalnum() or c in " -_.+" else "_" for c in name)[:100].strip(" .")
        taken = [*map(str.casefold, names)]
        if plain != name.strip() or not plain or plain.casefold() in taken:
            plain = f"{label}_{plain}"
        while plain.casefold() in taken:
            plain += "_"
        names.append(plain)
    return names


def _note_diverged(condensed: Condensed) -> None:
    for number in condensed.diverged:
        ended = condensed.iterations[number]
        say(f"set {number} diverged at iteration {ended}: its images are the last good ones")
