"""Checkpoints of a run: `RUN/checkpoints/NUMBER`, each of which counts once its manifest is there.

Orbax writes the folder; `NUMBER.json` comes last and whole, and names every file of it, and the
metrics until then, with sizes and SHA-256.  So a checkpoint that was cut off, spoiled or taken from
another run is told from a good one before anything in it is read.
"""

import contextlib
import hashlib
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from gm_jax.core.iteration import CondenseState
from gm_jax.errors import UserError
from gm_jax.storage.run_folder import flush, read_json, write_json

KEPT = 2
"""Checkpoints that a run keeps: the last one, and the one before should that be spoiled."""

MANIFEST = re.compile(r"[0-9]{7}\.json")
"""Names of manifests."""

LEFT = re.compile(r"\.?([0-9]{7})($|\.)|room$")
"""How names begin that this room gives to checkpoints, drafts, and Orbax to its drafts."""

OVERHEAD = 96 * 1024
"""Bytes that a checkpoint takes beside its arrays: some ten small files, in blocks of 4 KiB."""


def save(run: Path, state: CondenseState, identity: dict[str, Any]) -> None:
    """Writes a checkpoint, then deletes all but the last `KEPT`.

    Args:
        run: the run folder; metrics.jsonl is whole up to this state.
        state: of all runs.
        identity: the settings and data of the run, in JSON's types: what `restore` compares.

    Raises:
        OSError: it cannot be written; those of lower numbers are as they were.
    """
    folder = run / "checkpoints"
    number = done(state)
    path = folder / f"{number:07}"
    try:
        folder.mkdir(exist_ok=True)
        flush(run)
        _drop(folder, number)
        _sweep(folder)
        _check_room(folder, state)
        with _orbax(folder) as (checkpointer, same_folder):
            checkpointer.save(same_folder / path.name, args=ocp.args.StandardSave(state))
        for written in (run / "metrics.jsonl", path, *path.rglob("*")):
            flush(written)
        metrics = _fingerprint((run / "metrics.jsonl").read_bytes())
        manifest = {"identity": identity, "metrics": metrics, "files": _contents(path)}
        write_json(_manifest(folder, number), manifest)
    except Exception as error:  # Orbax wraps what the disk says in errors of many kinds
        _delete(path)
        reason = error.strerror if isinstance(error, OSError) else _first_line(error)
        raise OSError(f"checkpoint {path} cannot be written: {reason}") from error
    kept = [saved for saved in numbers(run) if saved <= number][-KEPT:]
    for other in set(numbers(run)) - set(kept):
        _drop(folder, other)  # those of a higher number were passed over


def restore(
    run: Path,
    start: CondenseState,
    identity: dict[str, Any],
    log: Callable[[str], None] = lambda line: None,
) -> CondenseState | None:
    """The last checkpoint that is whole, metrics.jsonl cut to what it was then; `None` if none was.

    Args:
        run: the run folder.
        start: a state of the same shapes.
        identity: as `save` was given.
        log: is told, in whole lines, of a checkpoint that is spoiled.

    Raises:
        UserError: there are checkpoints, and none of them is whole.
    """
    found = numbers(run)
    for number in reversed(found):
        try:
            state = _restored(run, number, start, identity)
        except Exception as error:  # whatever a damaged or foreign folder makes its readers raise
            log(f"checkpoint {number} of {run} is passed over: {_first_line(error)}")
            continue
        return state
    if found:
        raise UserError(f"no checkpoint of {run} is whole: start anew with --replace")
    return None


def numbers(run: Path) -> list[int]:
    """Iterations that checkpoints of a run folder were taken after, ascending."""
    names = (path.name for path in (run / "checkpoints").glob("*.json"))
    return sorted(int(name[:7]) for name in names if MANIFEST.fullmatch(name))


def identity(about: dict[str, Any]) -> dict[str, Any]:
    """What makes a run this run, of what its config.json says: settings and training data."""
    return {"settings": about["settings"], "train": about["data"]["train"]}


def discard(run: Path) -> None:
    """Deletes all checkpoints of a run folder."""
    folder = run / "checkpoints"
    for number in numbers(run):
        _drop(folder, number)
    if folder.is_dir():
        _sweep(folder)
        with contextlib.suppress(OSError):  # somebody keeps other files in it
            folder.rmdir()


def done(state: CondenseState) -> int:
    """Iterations behind the runs that go on; one that diverged stays at fewer."""
    return int(np.max(jax.device_get(state.iteration)))


def _restored(
    run: Path, number: int, start: CondenseState, identity: dict[str, Any]
) -> CondenseState:
    folder = run / "checkpoints"
    path = folder / f"{number:07}"
    manifest = read_json(_manifest(folder, number))
    if manifest["identity"] != identity:
        raise ValueError("it is of another run")
    if manifest["files"] != _contents(path):
        raise ValueError("its files were changed")
    metrics, size = run / "metrics.jsonl", manifest["metrics"]["bytes"]
    with metrics.open("rb") as file:
        if manifest["metrics"] != _fingerprint(file.read(size)):
            raise ValueError(f"{metrics} was changed")
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, start)
    with _orbax(folder) as (checkpointer, same_folder):
        state = checkpointer.restore(
            same_folder / path.name, args=ocp.args.StandardRestore(abstract)
        )
    if jax.tree.map(jax.typeof, state) != jax.tree.map(jax.typeof, start) or done(state) != number:
        raise ValueError("it holds other arrays than the run has")
    os.truncate(metrics, size)
    return state


def _check_room(folder: Path, state: CondenseState) -> None:
    """Raises `OSError` if the disk is full: threads of Orbax would print tracebacks of that."""
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(state)) + OVERHEAD
    path = folder / "room"
    try:
        path.write_bytes(bytes(size))
    finally:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _orbax(folder: Path) -> Iterator[tuple[ocp.Checkpointer, Path]]:
    """Orbax, and another name of the folder: in `[`, `\\` or `gs:` it would see more than a name.

    Quiet: it logs a traceback of all that it raises as well.
    """
    log = logging.getLogger("absl")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        with (
            tempfile.TemporaryDirectory() as plain,
            ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer,
        ):
            same_folder = Path(plain) / "checkpoints"
            same_folder.symlink_to(folder.resolve(), target_is_directory=True)
            yield checkpointer, same_folder
    finally:
        log.setLevel(level)


def _sweep(folder: Path) -> None:
    """Deletes what a killed process left: checkpoints without a manifest, and drafts."""
    for path in list(folder.iterdir()):
        number = LEFT.match(path.name)
        if number and not (folder / f"{number[1]}.json").exists():
            _delete(path)


def _contents(path: Path) -> dict[str, Any]:
    """The files of a checkpoint by name, with sizes and digests."""
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return {str(file.relative_to(path)): _fingerprint(file.read_bytes()) for file in files}


def _fingerprint(contents: bytes) -> dict[str, Any]:
    return {"bytes": len(contents), "sha256": hashlib.sha256(contents).hexdigest()}


def _manifest(folder: Path, number: int) -> Path:
    return folder / f"{number:07}.json"


def _drop(folder: Path, number: int) -> None:
    """Deletes a checkpoint, its manifest first: cut off in between, it no longer counts."""
    _manifest(folder, number).unlink(missing_ok=True)
    _delete(folder / f"{number:07}")


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
