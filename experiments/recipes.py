"""Published methods side by side at equal minutes, and what each part of `best` brings.

    python -m experiments.recipes --smoke
    python -m experiments.recipes --dataset fashion_mnist --minutes 2.5 5 10 --seeds 3 --count 5

Every recipe gets the same minutes for a set on this machine, compilation left out: its seconds per
iteration are measured once, and kept in OUT/seconds.json.  So let nothing else run at that moment;
afterwards the runs may share the machine.  All sets are evaluated by one protocol.

With `--ablate`, the rows are `best`, and `best` with one part taken back to the paper's.
"""

import dataclasses
import itertools
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, get_args

import jax

from experiments import command, table
from experiments.figures import lines
from experiments.sweep import (
    Cell,
    Found,
    Page,
    Scale,
    check_cell,
    load_once,
    markdown,
    resolve,
    run,
    save,
)
from gm_jax import api
from gm_jax.checks import POSITIVE, flag
from gm_jax.cli.terminal import say
from gm_jax.config import Config, list_sets, outer_steps
from gm_jax.errors import UserError
from gm_jax.recipes import RecipeName, recipe
from gm_jax.storage import files

NAME = "recipes"

PARTS: dict[str, dict[str, Any]] = {
    "best": {},
    "without multi-formation": {"factor": 1, "start": "real"},
    "without the mosaic start": {"start": "noise"},
    "without real inner data": {"inner_data": "synthetic", "inner_images": Config.inner_images},
    "without the level across classes": {"scheme": "intra"},
}
"""Rows of the ablation: one part of `best` taken back."""


@dataclasses.dataclass(frozen=True)
class Settings(Scale):
    """The size of every evaluation; iterations and real images are the recipe's own."""

    recipes: Annotated[tuple[RecipeName, ...], command.SOME] = get_args(RecipeName)
    """Rows of the table."""
    minutes: Annotated[tuple[Annotated[float, POSITIVE], ...], command.SOME] = (10.0,)
    """Columns of the table: minutes for a set."""
    ablate: bool = False
    """Parts of best instead of recipes."""


def configs(scale: Settings) -> dict[str, Config]:
    """The settings of each row, but for the number of iterations."""
    small: dict[str, Any] = {"width": 4, "depth": 1, "outer_steps": 2} if scale.smoke else {}
    small |= {"batch_real": 8} if scale.smoke else {}
    rows: dict[str, tuple[str, dict[str, Any]]] = {name: (name, {}) for name in scale.recipes}
    if scale.ablate:
        rows = {name: ("best", changes) for name, changes in PARTS.items()}
    found: dict[str, Config] = {}
    for row, (name, changes) in rows.items():
        settings = recipe(name, scale.dataset, scale.ipc)
        settings = dataclasses.replace(settings, **small | changes, seeds=scale.seeds)
        if scale.smoke and settings.inner_data == "real":
            settings = dataclasses.replace(settings, inner_images=64)
        found[row] = settings
    return found


def seconds_per_iteration(config: Config) -> float:
    """Of one set: the faster of two iterations after the first, of at most ten outer steps each."""
    steps = min(outer_steps(config), 10)
    alone = dataclasses.replace(config, seeds=1, iterations=3, outer_steps=steps)
    times = []
    for _, state, _ in api.iterations(alone, load_once(config.dataset)):
        jax.block_until_ready(state)
        times.append(time.perf_counter())
    jax.clear_caches()
    fastest = min(later - earlier for earlier, later in itertools.pairwise(times))
    return fastest * outer_steps(config) / steps


def measured(rows: dict[str, Config], path: Path) -> dict[str, float]:
    """Seconds per iteration of every row, from the file or measured now."""
    held = files.read_json(path) if path.exists() else {}
    for row, config in rows.items():
        alone = json.loads(json.dumps(dataclasses.asdict(dataclasses.replace(config, seeds=1))))
        if row not in held or held[row]["settings"] != alone:
            held[row] = {"seconds": seconds_per_iteration(config), "settings": alone}
            say(f"{row}: {held[row]['seconds']:.2f} s an iteration")
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write_json(path, held)
    return {row: held[row]["seconds"] for row in rows}


def cells(scale: Settings, seconds: dict[str, float]) -> list[Cell]:
    """A row for each recipe, a column for each number of minutes."""
    found = []
    for minutes in scale.minutes:
        for row, config in configs(scale).items():
            iterations = max(1, round(60 * minutes / seconds[row]))
            iterations = scale.iterations if scale.smoke else iterations
            changed = dataclasses.replace(config, iterations=iterations)
            found.append(Cell(row, f"{minutes:g} minutes", changed))
    return found


def make(scale: Settings, command: str) -> None:
    """Runs the cells, writes recipes.md, .csv, .png, and recipes-minutes.png."""
    scale = resolve(scale, NAME)
    for name in ("iterations", "batch_real") if not scale.smoke else ():
        if getattr(scale, name) != getattr(Settings, name):
            raise UserError(f"{flag(name)} is the recipe's own: see --minutes")
    if scale.ablate and scale.recipes != Settings.recipes:
        raise UserError("--recipes has no meaning with --ablate")
    for row, config in configs(scale).items():
        check_cell(Cell(row, "", config))
    seconds = measured(configs(scale), scale.folder / "seconds.json")
    found = run(cells(scale, seconds), scale)
    title = "Parts of best" if scale.ablate else "Recipes at equal minutes"
    rows = markdown("recipe", found, lambda one: one.column)
    cells_are = "each recipe with its own settings, as many iterations as take these minutes"
    save(Page(NAME, title, command, cells_are), rows, found, scale)
    with files.atomic(scale.folder / f"{NAME}-minutes.png") as draft:
        lines(draft, "minutes for a set", "test accuracy, %", _series(found))


def _series(found: Sequence[Found]) -> dict[str, list[tuple[float, float, float]]]:
    """By row: minutes that a set took, mean accuracy, standard deviation."""
    series: dict[str, list[tuple[float, float, float]]] = {}
    for one in found:
        if one.accuracies.size and one.config is not None:
            minutes = one.seconds / 60 / len(list_sets(one.config))
            series.setdefault(one.row, []).append((minutes, one.summary.mean, one.summary.std))
    return series


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    return table.main(NAME, __doc__, make, arguments, Settings)


if __name__ == "__main__":
    sys.exit(main())
