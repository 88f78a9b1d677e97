"""Run folders: what a run leaves on disk, written whole or not at all, and read back with care.

config.json      every setting, and the versions that ran
metrics.jsonl    a line an iteration
synthetic.npz    the condensed images
grid.png         the same to look at
evaluation.json  accuracies of fresh networks
"""

import contextlib
import dataclasses
import importlib.metadata
import json
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import gm_jax
from gm_jax.config import Config, check, sets
from gm_jax.errors import UserError
from gm_jax.synthetic import Synthetic

FORMAT = 2
"""Version of the run folder's layout; another one is refused."""

FILES = ("config.json", "metrics.jsonl", "synthetic.npz", "grid.png", "evaluation.json")


# --- writing --------------------------------------------------------------------------------------


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A path to write to, which takes the place of `path` if the block ends without an error."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft{path.suffix}")
    try:
        yield draft
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def create(folder: Path, config: Config, replace: bool) -> None:
    """Makes a run folder and writes its config; a finished run that is there goes if `replace`.

    Raises:
        UserError: the folder holds a finished run, holds something else, or cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()) and not _is_run(folder):
            raise UserError(f"--out {folder} is not empty and holds no run: name another folder")
        if (folder / "synthetic.npz").exists() and not replace:
            raise UserError(f"--out {folder} already holds a run: name another, or add --replace")
        discard(folder)
        write_json(folder / "config.json", described(config))
        (folder / "metrics.jsonl").touch()
    except OSError as error:
        raise UserError(f"--out {folder} cannot be written: {error.strerror}") from error


def discard(folder: Path) -> None:
    """Deletes a run's files, and nothing else."""
    for name in FILES:
        (folder / name).unlink(missing_ok=True)


def _is_run(folder: Path) -> bool:
    """Whether config.json is one of ours: other programs have files of that name as well."""
    try:
        config = json.loads((folder / "config.json").read_text())
        return {"format", "settings"} <= set(config)
    except (OSError, ValueError, TypeError):
        return False


def write_json(path: Path, value: Any) -> None:
    """`value` as indented JSON; NaN and infinity are refused, for JSON has none."""
    with atomic(path) as draft:
        draft.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n")


def append_metrics(folder: Path, rows: list[dict[str, Any]]) -> None:
    """A line a row at the end of metrics.jsonl."""
    with (folder / "metrics.jsonl").open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def write_synthetic(folder: Path, synthetic: Synthetic) -> None:
    """synthetic.npz; arrays and text only, nothing pickled."""
    arrays = synthetic._asdict() | {
        "class_names": np.array(synthetic.class_names),
        "config": np.array(json.dumps(described(synthetic.config))),
    }
    with atomic(folder / "synthetic.npz") as draft:
        np.savez_compressed(draft, **arrays)


def described(config: Config) -> dict[str, Any]:
    """The settings, and the versions that run now."""
    packages = ("jax", "jaxlib", "flax", "optax", "numpy")
    versions = {"gm_jax": gm_jax.__version__, "python": platform.python_version()}
    versions |= {name: importlib.metadata.version(name) for name in packages}
    return {"format": FORMAT, "settings": dataclasses.asdict(config), "versions": versions}


# --- reading --------------------------------------------------------------------------------------


def read_synthetic(folder: Path) -> Synthetic:
    """The condensed sets of a run folder.

    Raises:
        UserError: no such folder, not a finished run, or a file that is truncated, of another
            version, or not what `write_synthetic` writes.
    """
    path = folder / "synthetic.npz"
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder: name the one that condense wrote")
    if not path.exists():
        unfinished = (folder / "config.json").exists()
        raise UserError(
            f"{folder} holds no synthetic.npz: "
            + ("that run has not finished" if unfinished else "it is not a run folder")
        )
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return _synthetic_from(dict(arrays))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except Exception as error:  # whatever a foreign or damaged file makes its readers raise
        raise UserError(f"{path} is damaged or was not written by gm-jax condense") from error


def _synthetic_from(arrays: dict[str, np.ndarray]) -> Synthetic:
    found = json.loads(str(arrays["config"]))
    if found["format"] != FORMAT:
        raise UserError(f"format {found['format']}, this version reads {FORMAT}")
    settings = {k: tuple(v) if isinstance(v, list) else v for k, v in found["settings"].items()}
    config = Config(**settings)
    check(config)
    images, labels = arrays["images"], arrays["labels"]
    names = tuple(str(name) for name in arrays["class_names"])
    expected = (len(sets(config)), len(names) * config.ipc)
    if images.dtype != np.float32 or images.ndim != 5 or images.shape[:2] != expected:
        raise UserError(f"images are {images.dtype} {images.shape}, expected float32 {expected}..")
    if labels.dtype != np.int32 or not np.array_equal(
        labels, np.repeat(np.arange(len(names)), config.ipc)
    ):
        raise UserError(f"labels are not {config.ipc} of each of {len(names)} classes in order")
    channel = images.shape[-1]
    mean, std = (np.asarray(arrays[name], np.float32) for name in ("mean", "std"))
    if channel not in (1, 3) or mean.shape != (channel,) or std.shape != (channel,):
        raise UserError(f"{channel} channels, mean {mean.shape}, std {std.shape}: must be 1 or 3")
    if not all(np.isfinite(a).all() for a in (images, mean, std)):
        raise UserError("images, mean or std are not finite")
    return Synthetic(images, labels, mean, std, names, config)
