"""Seconds per iteration on this machine, measured once: what equal minutes rest on."""

import dataclasses
import itertools
import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import filelock
import jax

from experiments.sweep import Cell, Scale, load_once
from gm_jax import api
from gm_jax.cli.terminal import say
from gm_jax.config import outer_steps
from gm_jax.core.method import unchanged
from gm_jax.errors import UserError
from gm_jax.storage import files
from gm_jax.variants import describe_named, load_variant


def seconds_per_iteration(cell: Cell) -> float:
    """Of one set: the faster of two iterations after the first, of at most ten outer steps each.

    Longer iterations are scaled from ten steps, between which the network trains nine times: it is
    up to a tenth of that training too little.  Where a step rule decides how long it trains,
    iterations differ, and the faster of two is less than their mean: such a row gets more of them
    than take its minutes.
    """
    steps = outer_steps(cell.config)
    few = min(steps, 10)
    alone = dataclasses.replace(cell.config, seeds=1, iterations=3, outer_steps=few)
    variant = unchanged if cell.variant is None else load_variant(cell.variant)
    times = []
    for _, state, _ in api.iterations(alone, load_once(alone.dataset), variant):
        jax.block_until_ready(state)
        times.append(time.perf_counter())
    jax.clear_caches()
    return min(later - earlier for earlier, later in itertools.pairwise(times)) * steps / few


def measured(cells: Sequence[Cell], scale: Scale) -> dict[str, float]:
    """Seconds per iteration by a cell's name: measured now, or before and kept in seconds.json.

    Let nothing else run while it measures.  Where cells are only listed, a second each.

    Args:
        cells: whose iterations; their number and that of the seeds do not matter.
        scale: of the table, in whose folder the file is, with the settings of each number.
    """
    if scale.list_cells:
        return {cell.name: 1.0 for cell in cells}
    path = scale.folder / "seconds.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(path.with_suffix(".lock")):  # jobs of one table measure once
        return _measured(cells, path)


def _measured(cells: Iterable[Cell], path: Path) -> dict[str, float]:
    held, found = _held(path), {}
    for cell in cells:
        alone = dataclasses.replace(cell.config, seeds=1, iterations=1)
        variant = None if cell.variant is None else describe_named(cell.variant)._asdict()
        settings = json.loads(json.dumps(dataclasses.asdict(alone) | {"variant": variant}))
        of_name = held.setdefault(cell.name, [])
        if (seconds := _of_settings(of_name, settings)) is None:
            seconds = seconds_per_iteration(cell)
            of_name.append({"seconds": seconds, "settings": settings})
            say(f"{cell.name}: {seconds:.2f} s an iteration")
            files.write_json(path, held)
        found[cell.name] = seconds
    return found


def _held(path: Path) -> dict[str, list[dict[str, Any]]]:
    """What was measured before: by name, seconds with one settings or more."""
    held = files.read_json(path) if path.exists() else {}
    try:
        return {
            name: [{"seconds": float(of["seconds"]), "settings": of["settings"]} for of in of_name]
            for name, of_name in held.items()
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is damaged: delete it") from error


def _of_settings(of_name: list[dict[str, Any]], settings: dict[str, Any]) -> float | None:
    """The seconds that were measured with these settings; other ones of the name are kept."""
    return next((one["seconds"] for one in of_name if one["settings"] == settings), None)
