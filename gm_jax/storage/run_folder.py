"""Run folders: what a run leaves on disk, written whole or not at all, and read back with care.

config.json      every setting, and where the run comes from: versions, machine, commit, data
metrics.jsonl    a line an iteration
synthetic.npz    the condensed images; it is there once the run is finished
grid.png         the same to look at
evaluation.json  accuracies of fresh networks
checkpoints/     of a run that is not finished
replaced/        the finished run that was here before, until this one is finished
"""

import contextlib
import dataclasses
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import filelock
import numpy as np

from gm_jax.condensed import Synthetic
from gm_jax.config import Config, check, sets
from gm_jax.data import archives
from gm_jax.data.images import Dataset
from gm_jax.errors import UserError
from gm_jax.storage import provenance

FORMAT = 3
"""Version of the run folder's layout; another one is refused."""

FILES = ("config.json", "metrics.jsonl", "grid.png", "evaluation.json", "synthetic.npz")

DRAFTS = ".*.draft*"
"""Names of files that are being written."""

LOCK = ".lock"
"""Held by the process that writes into a run folder."""

LONGEST_JSON = 2**26
"""Bytes of the longest JSON file that is read."""


# --- writing --------------------------------------------------------------------------------------


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A path to write to, which takes the place of `path` if the block ends without an error."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft{path.suffix}")
    try:
        yield draft
        flush(draft)  # else a power cut may leave the name without the contents
        os.replace(draft, path)
        flush(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Waits until a file's contents, or a folder's names, are on the disk itself."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Makes a run folder if there is none, and keeps every other writer out of it.

    Raises:
        UserError: it holds something else than a run, is in use, or cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not _is_ours(folder):
            raise UserError(f"{folder} is not empty and holds no run: name another folder")
        lock = filelock.FileLock(folder / LOCK)
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise UserError(f"{folder} is in use by another gm-jax: wait, or name another") from error
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror}") from error
    try:
        for draft in folder.glob(DRAFTS):
            draft.unlink()  # a killed process left it
        yield
    finally:
        lock.release()


def _is_ours(folder: Path) -> bool:
    """Whether a folder is empty, or its config.json is a run's: others have files of that name."""
    drafts = {path.name for path in folder.glob(DRAFTS)}
    if not {path.name for path in folder.iterdir()} - drafts - {LOCK}:
        return True
    try:
        return {"format", "settings"} <= set(read_json(folder / "config.json"))
    except (UserError, TypeError):
        return False


def create(folder: Path, about: dict[str, Any]) -> None:
    """The files that a run begins with; a finished run that is there is set aside.

    config.json, by which a run folder is known, is there at every moment.
    """
    if finished(folder):
        _set_aside(folder)
    discard(folder, FILES[1:])
    write_json(folder / "config.json", about)
    (folder / "metrics.jsonl").touch()
    flush(folder)


def finished(folder: Path) -> bool:
    """Whether a run folder holds a finished run."""
    return (folder / "synthetic.npz").exists()


def _set_aside(folder: Path) -> None:
    """Moves a finished run's files into `replaced/`, the one last that makes it a finished run."""
    aside = folder / "replaced"
    aside.mkdir(exist_ok=True)
    if finished(aside):  # else it is this run, cut off while it was moved
        discard(aside)
    shutil.copyfile(folder / "config.json", aside / "config.json")
    for name in FILES[1:]:
        if (folder / name).exists():
            os.replace(folder / name, aside / name)


def drop_replaced(folder: Path) -> None:
    """Deletes the run that was set aside."""
    aside = folder / "replaced"
    discard(aside, (*FILES, LOCK))
    with contextlib.suppress(OSError):  # there is none, or somebody keeps other files in it
        aside.rmdir()


def discard(folder: Path, names: Sequence[str] = FILES) -> None:
    """Deletes a run's files, and nothing else; the one first that makes it a finished run."""
    for name in reversed(names):
        (folder / name).unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """`value` as indented JSON; NaN and infinity are refused, for JSON has none."""
    with atomic(path) as draft:
        draft.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n")


def append_metrics(folder: Path, rows: list[dict[str, Any]]) -> None:
    """A line a row at the end of metrics.jsonl."""
    with (folder / "metrics.jsonl").open("a") as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows))


def write_synthetic(folder: Path, synthetic: Synthetic, about: dict[str, Any]) -> None:
    """synthetic.npz; arrays and text only, nothing pickled.

    Args:
        folder: of the run.
        synthetic: the sets.
        about: what config.json holds.
    """
    arrays = synthetic._asdict() | {
        "class_names": np.array(synthetic.class_names),
        "config": np.array(json.dumps(about)),
    }
    with atomic(folder / "synthetic.npz") as draft:
        np.savez_compressed(draft, **arrays)


def described(config: Config, dataset: Dataset) -> dict[str, Any]:
    """What config.json says of a run that begins now, in JSON's types.

    `continued` gets an entry each time that the run is resumed in another environment.
    """
    about = {"format": FORMAT, "settings": dataclasses.asdict(config)}
    about |= provenance.environment()
    about |= {"data": provenance.data(dataset), "continued": []}
    return json.loads(json.dumps(about))


# --- reading --------------------------------------------------------------------------------------


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        UserError: it cannot be read, or is damaged.
    """
    try:
        if path.stat().st_size > LONGEST_JSON:
            raise UserError(f"{path} is longer than anything that gm-jax writes")
        return json.loads(path.read_text())
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged: it is no JSON") from error


def read_about(folder: Path) -> dict[str, Any]:
    """What the config.json of a run folder says; see `described`.

    Raises:
        UserError: it cannot be read, is damaged, or of another version.
    """
    path = folder / "config.json"
    about = read_json(path)
    try:
        config_from(about)
        _check_about(about)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except Exception as error:
        raise UserError(f"{path} is damaged or was not written by gm-jax condense") from error
    return about


def _check_about(about: dict[str, Any]) -> None:
    """Raises an exception of some kind unless all is there that `described` writes."""
    if not isinstance(about["continued"], list):
        raise TypeError("continued is no list")
    for ran in (about, *about["continued"]):
        _ = ({**ran["versions"], **ran["platform"]}, ran["commit"])
    if not all(isinstance(about["data"][part], str) for part in ("name", "train", "test")):
        raise TypeError("data are no strings")


def config_from(about: dict[str, Any]) -> Config:
    """The settings that config.json tells; `UserError`, or another exception, if they are none."""
    if about["format"] != FORMAT:
        raise UserError(f"format {about['format']}, this version reads {FORMAT}")
    settings = {k: tuple(v) if isinstance(v, list) else v for k, v in about["settings"].items()}
    config = Config(**settings)
    check(config)
    return config


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
        why = "that run has not finished" if (folder / "config.json").exists() else "it is no run"
        before = folder / "replaced"
        kept = f"; the one before it is in {before}" if finished(before) else ""
        raise UserError(f"{folder} holds no synthetic.npz: {why}{kept}")
    arrays = archives.read_npz(path)
    try:
        return _synthetic_from(arrays)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except Exception as error:  # whatever a foreign file makes its readers raise
        raise UserError(f"{path} is damaged or was not written by gm-jax condense") from error


def _synthetic_from(arrays: dict[str, np.ndarray]) -> Synthetic:
    about = json.loads(str(arrays["config"]))
    config = config_from(about)
    _check_about(about)
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
    if not all(np.isfinite(a).all() for a in (images, mean, std)) or not (std > 0).all():
        raise UserError("images, mean or std are not finite, or std is not above 0")
    done = arrays["iterations"]
    if done.dtype != np.int32 or done.shape != images.shape[:1]:
        raise UserError(f"iterations are {done.dtype} {done.shape}, expected int32 of each set")
    if not 0 <= done.min() <= done.max() <= config.iterations:
        raise UserError(f"iterations must be 0 to {config.iterations}")
    return Synthetic(images, labels, mean, std, names, done, config)
