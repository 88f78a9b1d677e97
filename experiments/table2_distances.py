"""Which distance: the angle, the magnitude, or both, of each output unit's gradient or of all.

    python -m experiments.table2_distances --smoke
    python -m experiments.table2_distances --ipc 1 --out results/distances
    python -m experiments.table2_distances --ipc 1 --distances cosine l2 cosine+l2 --iterations 60
    python -m experiments.table2_distances --distances cosine cosine+l2 --image-lrs 0.1 0.3 1
    python -m experiments.table2_distances --variants my_research:with_manhattan --runs runs/own

The paper's ablation of its distance (arXiv 2208.00311); its values could not be obtained, so none
are shown.  All other settings are the paper's: multi-level matching, the overfitting-aware rule.
With cosine+l2 among the rows, the others' differences from it are shown, in pairs of sets.
Each variant of the method is one more row, condensed with the settings of the other rows; each
finished, evaluated run folder adds rows too, which keep their own settings (see the CSV file).
"""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, get_args

from experiments import command, table
from experiments.page import Page, accuracy_table, difference_tables, save
from experiments.rates import RatedScale, at_rates
from experiments.sweep import Cell, config, read_run, resolve, run
from gm_jax.config import DistanceName

NAME = "table2_distances"


@dataclasses.dataclass(frozen=True)
class Settings(RatedScale):
    """The size of every condensation and evaluation, and further rows."""

    distances: Annotated[tuple[DistanceName, ...], command.SOME] = get_args(DistanceName)
    """Rows of the table."""
    variants: tuple[str, ...] = ()
    """Changes of the method, MODULE:FUNCTION, as `gm-jax condense --variant` knows them."""
    runs: tuple[Path, ...] = ()
    """Finished, evaluated run folders; a row for each value of a swept setting."""


def cells(scale: Settings) -> list[Cell]:
    """A row for each distance and variant, at every learning rate."""
    rows = [Cell(name, "", config(scale, distance=name)) for name in scale.distances]
    rows += [Cell(name, "", config(scale), variant=name) for name in scale.variants]
    return at_rates(rows, scale)


def make(scale: Settings, typed: str) -> None:
    """Runs the cells, writes table2_distances.md, .csv, .png and .html."""
    scale = resolve(scale, NAME)
    of_runs = [found for folder in scale.runs for found in read_run(folder)]
    found = run(cells(scale), scale) + of_runs
    column_of = lambda one: one.column or "accuracy"
    tables = [accuracy_table("distance", found, column_of)]
    tables += difference_tables("cosine+l2", found, column_of)
    save(Page(NAME, "Distances between gradients", typed), tables, found, scale)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    return table.main(NAME, __doc__, make, arguments, Settings)


if __name__ == "__main__":
    sys.exit(main())
