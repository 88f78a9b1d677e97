"""The recipes side by side in one table: every method, data set and number of images.

    python -m experiments.overview docs/results/recipes_*_ipc*.csv

Reads the tables that `experiments.recipes` wrote, and prints one in Markdown: a line for each
cell, beside what was published for full settings, and the commands that make the cell.
"""

import csv
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, get_args

import tyro

from experiments import command
from experiments.command import SOME
from experiments.sweep import Table
from gm_jax.errors import UserError
from gm_jax.evaluation.published import published
from gm_jax.recipes import RecipeName

PUBLISHED_AS = {"dc": "DC", "dsa": "DSA", "idc": "IDC"}
"""The names that published numbers have, by recipe."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """Which tables are put together."""

    tables: Annotated[tuple[Path, ...], tyro.conf.Positional, SOME]
    """CSV files of experiments.recipes, in this order."""


def overview(tables: Sequence[Path]) -> str:
    """The table and its commands, in Markdown.

    Raises:
        UserError: a file is not a table of recipes.
    """
    cells = [cell for path in tables for cell in _read(path)]
    head = ["images", "method", "test accuracy, %", "sets x networks", "minutes", "iterations"]
    rows = [_row(cell) for cell in cells]
    commands = "\n".join(f"    {line}" for cell in cells for line in _commands(cell))
    return f"{Table([*head, 'published, %'], rows).markdown}\n\n{commands}\n"


def _read(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="") as file:
            cells = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as a table: {error}") from error
    if not cells or not all(_of_recipe(cell) for cell in cells):
        raise UserError(f"{path}: must be a table of experiments.recipes")
    return cells


def _of_recipe(cell: dict[str, str]) -> bool:
    minutes = (cell.get("column") or "").endswith(" minutes")
    return minutes and cell.get("row") in get_args(RecipeName)


def _row(cell: dict[str, str]) -> list[str]:
    known = published(cell["dataset"], int(cell["ipc"]))
    return [
        f"{cell['dataset']}, ipc {cell['ipc']}",
        cell["row"],
        _accuracy(cell),
        f"{cell['sets']} x {cell['networks']}",
        cell["column"].removesuffix(" minutes"),
        cell["iterations"],
        known.get(PUBLISHED_AS.get(cell["row"], ""), ""),
    ]


def _accuracy(cell: dict[str, str]) -> str:
    """Mean and standard error over sets, from their population deviation: s / sqrt(n - 1)."""
    mean, sets = float(cell["mean"]), int(cell["sets"])
    if sets < 2:
        return f"{mean:.1f}" if sets else "diverged"
    return f"{mean:.1f} ± {float(cell['std_sets']) / (sets - 1) ** 0.5:.1f}"


def _commands(cell: dict[str, str]) -> list[str]:
    run = f"runs/{cell['dataset']}-{cell['row']}-ipc{cell['ipc']}"
    condense = f"--recipe {cell['row']} --dataset {cell['dataset']} --ipc {cell['ipc']}"
    size = f"--iterations {cell['iterations']} --seeds {cell['seeds']}"
    evaluate = f"--count {cell['networks']} --epochs {cell['epochs']} --skip-random-real"
    return [f"gm-jax condense {condense} {size} --out {run}", f"gm-jax evaluate {run} {evaluate}"]


def make(settings: Settings, typed: str) -> None:
    """Prints the table."""
    print(overview(settings.tables), end="")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    return command.main("experiments.overview", __doc__, Settings, make, arguments)


if __name__ == "__main__":
    sys.exit(main())
