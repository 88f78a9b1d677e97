"""Seconds per iteration on this machine, measured once: what equal minutes rest on."""

import dataclasses
import json
import statistics
import time
from collections.abc import Iterator, Sequence
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

MOST_STEPS = 10
MOST_ROUNDS = 100
LEAST_SECONDS = 5.0


def seconds_per_iteration(cells: Sequence[Cell]) -> list[float]:
    """Of one set of each cell: the mean of the iterations after the first.

    The cells take turns, since a machine's speed drifts: each for two iterations at least, and for
    more, 100 at most, until these come to five seconds a cell.  Iterations of more than ten outer
    steps are scaled from ten, between which the network trains nine times: it is up to a tenth of
    that training too little.  Where a step rule decides how long it trains, later iterations may
    take longer than these.
    """
    runs = [_seconds(cell) for cell in cells]
    for run in runs:
        next(run)  # compiles
    rounds: list[list[float]] = []
    while len(rounds) < 2 or (
        len(rounds) < MOST_ROUNDS and sum(map(sum, rounds)) < LEAST_SECONDS * len(cells)
    ):
        rounds.append([next(run) for run in runs])
    jax.clear_caches()
    return [statistics.mean(of_cell) for of_cell in zip(*rounds, strict=True)]


def _seconds(cell: Cell) -> Iterator[float]:
    """The seconds of one iteration after the other."""
    steps = outer_steps(cell.config)
    few = min(steps, MOST_STEPS)
    iterations = 1 + MOST_ROUNDS
    alone = dataclasses.replace(cell.config, seeds=1, iterations=iterations, outer_steps=few)
    variant = unchanged if cell.variant is None else load_variant(cell.variant)
    run = api.iterations(alone, load_once(alone.dataset), variant)
    for _ in range(iterations):
        begin = time.perf_counter()
        jax.block_until_ready(next(run))
        yield (time.perf_counter() - begin) * steps / few


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


def _measured(cells: Sequence[Cell], path: Path) -> dict[str, float]:
    held, found = _held(path), {}
    for cell in cells:
        same = (one for one in held.get(cell.name, []) if one["settings"] == _settings(cell))
        if one := next(same, None):
            found[cell.name] = one["seconds"]
    if missing := [cell for cell in cells if cell.name not in found]:
        for cell, seconds in zip(missing, seconds_per_iteration(missing), strict=True):
            new = {"seconds": seconds, "settings": _settings(cell)}
            held.setdefault(cell.name, []).append(new)  # those with other settings are kept
            found[cell.name] = seconds
            say(f"{cell.name}: {seconds:.3g} s an iteration")
        files.write_json(path, held)
    return found


def _settings(cell: Cell) -> dict[str, Any]:
    """What a cell's seconds depend on, as a JSON file holds it."""
    alone = dataclasses.replace(cell.config, seeds=1, iterations=1)
    variant = None if cell.variant is None else describe_named(cell.variant)._asdict()
    return json.loads(json.dumps(dataclasses.asdict(alone) | {"variant": variant}))


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
