"""The recipes side by side in one table: every method, data set and number of images.

    python -m experiments.overview docs/results/recipes_*_ipc*.csv

Reads the tables that `experiments.recipes` wrote, and prints one in Markdown: a line for each
cell, beside what was published for full settings, and the commands that make the cell.
`experiments.recipes` calls its table recipes.csv: copy it to a name that says what it is of.
"""

import csv
import dataclasses
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple, get_args

import tyro

from experiments import command
from experiments.command import SOME
from experiments.page import Table
from gm_jax.data.loading import name_of
from gm_jax.errors import UserError
from gm_jax.evaluation.published import published
from gm_jax.recipes import RecipeName, recipe

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
    head = ["images", "method", "test accuracy, %", "sets x networks", "epochs"]
    head += ["minutes", "iterations", "published, %"]
    commands = "\n".join(f"    {line}" for cell in cells for line in _commands(cell))
    return f"{Table(head, [_row(cell) for cell in cells]).markdown}\n\n{commands}\n"


class Result(NamedTuple):
    """A line of a table of recipes.

    Attributes:
        recipe, dataset, ipc, minutes, iterations, seeds: what was condensed.
        scheme: of matching; a recipe's may have changed since.
        mean: test accuracy in percent.
        error: the standard error of the mean over sets; `None` for fewer than two sets.
        sets: that did not diverge.
        networks: trained on each, for so many `epochs`.
    """

    recipe: str
    dataset: str
    ipc: int
    minutes: str
    iterations: int
    seeds: int
    scheme: str
    mean: float
    error: float | None
    sets: int
    networks: int
    epochs: int


def _read(path: Path) -> list[Result]:
    try:
        with path.open(newline="") as file:
            found = [_result(line) for line in csv.DictReader(file)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as a table: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: must be a table of experiments.recipes") from error
    if not found or not all(one.recipe in get_args(RecipeName) for one in found):
        raise UserError(f"{path}: must be a table of experiments.recipes")
    return found


def _result(line: dict[str, str]) -> Result:
    """Of sets' population deviation s, the standard error of their mean is s / sqrt(n - 1)."""
    sets = int(line["sets"])
    return Result(
        recipe=line["row"],
        dataset=line["dataset"],
        ipc=int(line["ipc"]),
        minutes=line["column"].removesuffix(" minutes"),
        iterations=int(line["iterations"]),
        seeds=int(line["seeds"]),
        scheme=line["scheme"],
        mean=float(line["mean"]),
        error=float(line["std_sets"]) / (sets - 1) ** 0.5 if sets > 1 else None,
        sets=sets,
        networks=int(line["networks"]),
        epochs=int(line["epochs"]),
    )


def _differs(of: Result) -> bool:
    """Whether the scheme is not the recipe's own of today."""
    return of.scheme != recipe(of.recipe, name_of(of.dataset), of.ipc).scheme


def _row(of: Result) -> list[str]:
    accuracy = f"{of.mean:.1f}" if of.error is None else f"{of.mean:.1f} ± {of.error:.1f}"
    sets = str(of.sets) if of.sets == of.seeds else f"{of.sets} of {of.seeds}"
    return [
        f"{of.dataset}, ipc {of.ipc}",
        of.recipe + (f", {of.scheme}" if _differs(of) else ""),
        accuracy if of.sets else "diverged",
        f"{sets} x {of.networks}",
        str(of.epochs),
        of.minutes,
        str(of.iterations),
        published(of.dataset, of.ipc).get(PUBLISHED_AS.get(of.recipe, ""), ""),
    ]


def _commands(of: Result) -> list[str]:
    dataset = shlex.quote(of.dataset)
    name = f"{Path(of.dataset).name}-{of.recipe}-ipc{of.ipc}-{of.iterations}"
    run = shlex.quote(f"runs/{name}")
    changes = f" --scheme {of.scheme}" if _differs(of) else ""
    condense = f"gm-jax condense --recipe {of.recipe}{changes} --dataset {dataset} --ipc {of.ipc}"
    lines = [f"{condense} --iterations {of.iterations} --seeds {of.seeds} --out {run}"]
    if of.sets:
        networks = f"--count {of.networks} --epochs {of.epochs} --skip-random-real"
        lines.append(f"gm-jax evaluate {run} {networks}")
    return lines


def make(settings: Settings, typed: str) -> None:
    """Prints the table."""
    print(overview(settings.tables), end="")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    return command.main("experiments.overview", __doc__, Settings, make, arguments)


if __name__ == "__main__":
    sys.exit(main())
