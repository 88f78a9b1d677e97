"""Checkpoints of a run: `RUN/checkpoints/NUMBER.npz`, each written atomically.

It holds the arrays of all sets, plain and unpadded, so that any number of devices can go on from
it, the identity of the run, and the length of metrics.jsonl.  The archive's own checksums detect
damage.
"""

import contextlib
import hashlib
import json
import logging
import os
import re
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gm_jax.core.loop import iterations_done
from gm_jax.core.method import State
from gm_jax.data.archives import read_npz
from gm_jax.disk import flush
from gm_jax.errors import UserError
from gm_jax.storage.files import atomic, drafts, parse_json

log = logging.getLogger("gm_jax")

KEPT = 2
"""Checkpoints that a run keeps: the last one, and the one before in case that is damaged."""

NAME = re.compile(r"([0-9]{7})\.npz")


def save(run: Path, state: State, identity: dict[str, Any]) -> None:
    """Writes a checkpoint, then deletes all but the last `KEPT`.

    Args:
        run: the run folder; metrics.jsonl is complete up to this state.
        state: of all sets.
        identity: settings and data of the run, in JSON's types: what `restore` compares.

    Raises:
        OSError: it cannot be written; earlier ones are as they were.
    """
    number = iterations_done(state)
    flush(run / "metrics.jsonl")
    metrics = _fingerprint((run / "metrics.jsonl").read_bytes())
    arrays: dict[str, Any] = {
        f"array{at}": np.asarray(a) for at, a in enumerate(jax.tree.leaves(state))
    }
    about = np.array(json.dumps({"identity": identity, "metrics": metrics}))
    path = _path(run, number)
    path.parent.mkdir(exist_ok=True)
    flush(run)
    with atomic(path) as draft:
        np.savez(draft, allow_pickle=False, about=about, **arrays)
    kept = [saved for saved in numbers(run) if saved <= number][-KEPT:]
    for other in set(numbers(run)) - set(kept):  # those of a higher number were passed over
        _path(run, other).unlink()


def restore(run: Path, start: State, identity: dict[str, Any]) -> State | None:
    """The last good checkpoint, metrics.jsonl cut to what it was then; `None` if there is none.

    Args:
        run: the run folder.
        start: a state of the same shapes.
        identity: as `save` was given.

    Raises:
        UserError: there are checkpoints, and none of them is good.
    """
    found = numbers(run)
    for number in reversed(found):
        try:
            return _restore(run, number, start, identity)
        except (UserError, OSError, RecursionError, KeyError, TypeError, ValueError) as error:
            log.warning("checkpoint %d of %s is skipped: %s", number, run, error)
    if found:
        raise UserError(f"no checkpoint of {run} can be used: start again with --replace")
    return None


def numbers(run: Path) -> list[int]:
    """Iterations that checkpoints of a run folder were taken after, ascending."""
    names = (path.name for path in (run / "checkpoints").glob("*.npz"))
    return sorted(int(match[1]) for name in names if (match := NAME.fullmatch(name)))


def discard(run: Path) -> None:
    """Deletes all checkpoints of a run folder."""
    folder = run / "checkpoints"
    for path in [*(_path(run, number) for number in numbers(run)), *drafts(folder)]:
        path.unlink()
    with contextlib.suppress(OSError):  # there is none, or somebody keeps other files in it
        folder.rmdir()


def _restore(run: Path, number: int, start: State, identity: dict[str, Any]) -> State:
    arrays = read_npz(_path(run, number))
    about = parse_json(str(arrays.pop("about")))
    if about["identity"] != identity:
        raise UserError("it is of another run")
    path, metrics = run / "metrics.jsonl", about["metrics"]
    with path.open("rb") as file:
        if metrics != _fingerprint(file.read(metrics["bytes"])):
            raise UserError(f"{path} was changed")
    leaves, structure = jax.tree.flatten(start)
    shapes = {f"array{at}": (leaf.shape, leaf.dtype) for at, leaf in enumerate(leaves)}
    if {name: (array.shape, array.dtype) for name, array in arrays.items()} != shapes:
        raise UserError("it holds other arrays than the run has")
    state = jax.tree.unflatten(structure, [arrays[name] for name in shapes])
    if iterations_done(state) != number:
        raise UserError("it is of another iteration than its name says")
    os.truncate(path, metrics["bytes"])
    return state


def _path(run: Path, number: int) -> Path:
    return run / "checkpoints" / f"{number:07}.npz"


def _fingerprint(contents: bytes) -> dict[str, Any]:
    return {"bytes": len(contents), "sha256": hashlib.sha256(contents).hexdigest()}
