"""Published methods side by side at equal minutes, and what each part of `best` brings.

    python -m experiments.recipes --smoke
    python -m experiments.recipes --dataset fashion_mnist --minutes 2.5 5 10 --seeds 3 --count 5

Every recipe gets the same minutes for a set on this machine, compilation left out: its seconds per
iteration are measured once, and kept in OUT/seconds.json.  So let nothing else run at that moment;
afterwards the runs may share the machine.  All sets are evaluated by one protocol.

With `--ablate`, the rows are `best`, and `best` with one part taken back to the paper's.
"""

import dataclasses
import sys
from collections.abc import Sequence
from typing import Annotated, Any, get_args

from experiments import command, table
from experiments.figures import lines
from experiments.pacing import measured
from experiments.page import Page, accuracy_table, difference_tables, save
from experiments.sweep import Cell, Found, Scale, check_cell, resolve, run
from gm_jax.checks import POSITIVE, flag
from gm_jax.config import Config
from gm_jax.data.loading import name_of
from gm_jax.errors import UserError
from gm_jax.recipes import RecipeName, recipe
from gm_jax.storage import files

NAME, ABLATION = "recipes", "recipes_ablation"

PARTS: dict[str, dict[str, Any]] = {
    "best": {},
    "without multi-formation": {"factor": 1, "start": "real"},
    "without the mosaic start": {"start": "noise"},
    "without real inner data": {"inner_data": "synthetic"},
    "with the level across classes": {"scheme": "multi-level"},
}
"""Rows of the ablation: one part of `best` taken back to the paper's."""


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
        settings = recipe(name, name_of(scale.dataset), scale.ipc)
        own = {"dataset": scale.dataset, "seeds": scale.seeds}
        settings = dataclasses.replace(settings, **small | changes | own)
        if scale.smoke and settings.inner_data == "real":
            settings = dataclasses.replace(settings, inner_images=64)
        found[row] = settings
    return found


def cells(scale: Settings, seconds: dict[str, float]) -> list[Cell]:
    """A row for each recipe, a column for each number of minutes."""
    found = []
    for minutes in scale.minutes:
        for row, config in configs(scale).items():
            iterations = max(1, round(60 * minutes / seconds[row]))
            iterations = scale.iterations if scale.smoke else iterations
            changed = dataclasses.replace(config, iterations=iterations)
            named: Any = None if scale.ablate else row
            found.append(Cell(row, f"{minutes:g} minutes", changed, recipe=named))
    return found


def make(scale: Settings, typed: str) -> None:
    """Runs the cells, writes NAME.md, .csv, .png, .html, and NAME-minutes.png."""
    name_of_table = ABLATION if scale.ablate else NAME
    scale = resolve(scale, name_of_table)
    for name in ("iterations", "batch_real") if not scale.smoke else ():
        if getattr(scale, name) != getattr(Settings, name):
            raise UserError(f"{flag(name)} is the recipe's own: see --minutes")
    if scale.ablate and scale.recipes != Settings.recipes:
        raise UserError("--recipes has no meaning with --ablate")
    rows = [Cell(row, "", config) for row, config in configs(scale).items()]
    for cell in rows:
        check_cell(cell)
    seconds = measured(rows, scale)
    found = run(cells(scale, seconds), scale)
    title = "Parts of best" if scale.ablate else "Recipes at equal minutes"
    base = "best" if scale.ablate else "paper"
    column_of = lambda one: one.column
    tables = [accuracy_table("recipe", found, column_of)]
    tables += difference_tables(base, found, column_of)
    cells_are = "each recipe with its own settings, as many iterations as take these minutes"
    save(Page(name_of_table, title, typed, cells_are), tables, found, scale)
    with files.atomic(scale.folder / f"{name_of_table}-minutes.png") as draft:
        lines(draft, "minutes for a set", "test accuracy, %", _series(found, seconds))


def _series(
    found: Sequence[Found], seconds: dict[str, float]
) -> dict[str, list[tuple[float, float, float]]]:
    """By row: minutes of a set's iterations, mean accuracy, standard deviation."""
    series: dict[str, list[tuple[float, float, float]]] = {}
    for one in found:
        if one.accuracies.size and one.config is not None:
            minutes = one.config.iterations * seconds[one.row] / 60
            series.setdefault(one.row, []).append((minutes, one.summary.mean, one.summary.std))
    return series


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    return table.main(NAME, __doc__, make, arguments, Settings)


if __name__ == "__main__":
    sys.exit(main())
