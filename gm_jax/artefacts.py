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
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import gm_jax
from gm_jax.config import Config, check
from gm_jax.errors import UserError
from gm_jax.synthetic import Synthetic

FORMAT = 1
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
    """Makes a run folder and writes its config; a run that is there goes only if `replace`.

    Raises:
        UserError: the folder holds a run, holds something else, or cannot be written.
    """
    present = [name for name in FILES if (folder / name).exists()]
    if present and not replace:
        raise UserError(f"--out {folder} already holds a run: name another, or add --replace")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not present and any(folder.iterdir()):
            raise UserError(f"--out {folder} is not empty and holds no run: name another folder")
        for name in present:
            (folder / name).unlink()
        write_json(folder / "config.json", _described(config))
        (folder / "metrics.jsonl").touch()
    except OSError as error:
        raise UserError(f"--out {folder} cannot be written: {error.strerror}") from error


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
        "config": np.array(json.dumps(_described(synthetic.config))),
    }
    with atomic(folder / "synthetic.npz") as draft:
        np.savez_compressed(draft, **arrays)


def _described(config: Config) -> dict[str, Any]:
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
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, UserError):
            raise UserError(f"{path}: {error}") from error
        raise UserError(f"{path} is damaged or was not written by gm-jax condense") from error


def _synthetic_from(arrays: dict[str, np.ndarray]) -> Synthetic:
    described = json.loads(str(arrays["config"]))
    if described["format"] != FORMAT:
        raise UserError(f"format {described['format']}, this version reads {FORMAT}")
    config = Config(**described["settings"])
    check(config)
    images, labels = arrays["images"], arrays["labels"]
    names = tuple(str(name) for name in arrays["class_names"])
    expected = (config.seeds, len(names) * config.ipc)
    if images.dtype != np.float32 or images.ndim != 5 or images.shape[:2] != expected:
        raise UserError(f"images are {images.dtype} {images.shape}, expected float32 {expected}..")
    if not np.array_equal(labels, np.repeat(np.arange(len(names)), config.ipc)):
        raise UserError(f"labels are not {config.ipc} of each of {len(names)} classes in order")
    return Synthetic(images, labels, arrays["mean"], arrays["std"], names, config)
