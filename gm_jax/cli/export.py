"""`gm-jax show` and `gm-jax export`: a run's images to look at, and for other programs."""

import dataclasses
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gm_jax.cli.terminal import RunFolder, say
from gm_jax.condensed import Synthetic
from gm_jax.data.images import denormalise
from gm_jax.errors import UserError
from gm_jax.storage import pictures, pt_file, run_folder


@dataclasses.dataclass(frozen=True)
class Show:
    """Draw a run's images, a row a class, into a PNG."""

    run: RunFolder
    """Run folder that condense wrote."""
    out: Path | None = None
    """PNG to write. Default: grid.png in the run folder."""
    set: int = 0
    """Which of the run's sets, from 0."""


@dataclasses.dataclass(frozen=True)
class Export:
    """Write a run's images for other programs.

    As PNGs, OUT/SET/CLASS/NUMBER.png, and OUT/images.npz of uint8 `images` [sets, n, height, width,
    channel] and int32 `labels` [n]; or as the .pt file of the published PyTorch programs, exactly
    as they were learned.
    """

    run: RunFolder
    """Run folder that condense wrote."""
    out: Path
    """Folder to make, which must not exist or be empty; with --to pt, file to write."""
    to: str = "png"
    """Pictures and pixels (png), or the layout of the PyTorch programs (pt), which needs torch."""


def show(command: Show) -> None:
    """Writes the picture and says where."""
    synthetic = run_folder.read_synthetic(command.run)
    _say_diverged(synthetic)
    if not 0 <= command.set < len(synthetic.images):
        raise UserError(f"--set {command.set}: the run has sets 0 to {len(synthetic.images) - 1}")
    path = command.out or command.run / "grid.png"
    if path.name in run_folder.FILES and path.name != "grid.png":
        raise UserError(f"--out {path} would overwrite a run's file: name another")
    try:
        _draw(path, synthetic, command.set)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from error
    print(path)


def _draw(path: Path, synthetic: Synthetic, number: int) -> None:
    with run_folder.atomic(path) as draft:
        pictures.save_grid(draft, synthetic, number)


def export(command: Export) -> None:
    """Writes into a new folder beside `out`, then names it so."""
    if command.to not in ("png", "pt"):
        raise UserError(f"--to {command.to!r} is unknown: choose png, pt")
    synthetic = run_folder.read_synthetic(command.run)
    _say_diverged(synthetic)
    if not synthetic.whole:
        raise UserError(f"{command.run} holds no set that did not diverge: nothing to export")
    out = command.out
    if command.to == "pt":
        _export_pt(command, synthetic)
        return
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f"--out {out} exists and is not an empty folder: name another")
    pixels = denormalise(synthetic.images, synthetic.mean, synthetic.std)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
        try:
            _write_export(draft, pixels, synthetic)
            draft.chmod(0o755)
            os.replace(draft, out.resolve())
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        raise UserError(f"--out {out} cannot be written: {error.strerror}") from error
    print(f"{len(synthetic.whole) * pixels.shape[1]} images: {out}")


def _export_pt(command: Export, synthetic: Synthetic) -> None:
    out = command.out
    if out.exists():
        raise UserError(f"--out {out} exists: name another file")
    found = accuracies(command.run / "evaluation.json")
    whole = synthetic._replace(images=synthetic.images[synthetic.whole])
    out.parent.mkdir(parents=True, exist_ok=True)
    with run_folder.atomic(out) as draft:
        pt_file.write(draft, whole, found)
    print(f"{len(whole.images)} sets: {out}")


def accuracies(path: Path) -> dict[str, list[float]]:
    """Of networks trained on condensed sets, by architecture; none if they were not evaluated."""
    results = run_folder.read_json(path) if path.exists() else {}
    try:
        return {
            name: np.ravel(np.asarray(result["condensed"]["accuracies"], float)).tolist()
            for name, result in results.items()
            if "condensed" in result
        }
    except Exception as error:  # whatever a changed file makes of it
        raise UserError(f"{path} is damaged: evaluate again, or delete it") from error


def _write_export(folder: Path, pixels: np.ndarray, synthetic: Synthetic) -> None:
    whole = pixels[synthetic.whole]
    np.savez_compressed(folder / "images.npz", images=whole, labels=synthetic.labels)
    names = folder_names(synthetic.class_names)
    for number, of_set in zip(synthetic.whole, whole):
        for index, (image, label) in enumerate(zip(of_set, synthetic.labels)):
            path = folder / f"set{number}" / names[label]
            path.mkdir(parents=True, exist_ok=True)
            pictures.save_image(path / f"{index % synthetic.config.ipc:03}.png", image)


def folder_names(class_names: Sequence[str]) -> list[str]:
    """A name for each class's folder: its own where that can be one anywhere, else by its number.

    Letters, digits, blanks and `-_.+` stay, others become `_`; what comes out empty, hidden, too
    long, or a second time gets the class's number in front.
    """
    names = []
    for label, name in enumerate(class_names):
        plain = "".join(c if c.isalnum() or c in " -_.+" else "_" for c in name)[:100].strip(" .")
        taken = plain.casefold() in map(str.casefold, names)
        names.append(plain if plain == name.strip() and plain and not taken else f"{label}_{plain}")
    return names


def _say_diverged(synthetic: Synthetic) -> None:
    for at, done in enumerate(synthetic.iterations):
        if at not in synthetic.whole:
            say(f"set {at} diverged at iteration {done}: its images are those before")
