"""Which gradients to match: each class's, those of mixed classes, in turn, or both at once.

    python -m experiments.table1_levels --smoke
    python -m experiments.table1_levels --ipc 1 --out results/levels
    python -m experiments.table1_levels --ipc 1 --schemes intra multi-level --iterations 60

Table 1 of the paper (arXiv 2208.00311) compares the same schemes; its values could not be obtained,
so none are shown.  One setting at a time differs from the paper's; the last row is DC (arXiv
2006.05929), which matches single classes by the angle alone.  With multi-level among the rows, the
others' differences from it are shown, in pairs of sets.
"""

import dataclasses
import sys
from collections.abc import Sequence
from typing import Annotated, Literal, get_args

from experiments import command, table
from experiments.page import Page, accuracy_table, difference_tables, save
from experiments.rates import RatedScale, at_rates
from experiments.sweep import Cell, config, resolve, run

NAME = "table1_levels"

PaperScheme = Literal["intra", "inter", "interleaved", "multi-level"]
"""Those that the paper compares."""


@dataclasses.dataclass(frozen=True)
class Settings(RatedScale):
    """The size of every condensation and evaluation, and the rows."""

    schemes: Annotated[tuple[PaperScheme, ...], command.SOME] = get_args(PaperScheme)
    """Rows of the table, besides DC."""


def cells(scale: Settings) -> list[Cell]:
    """A row for each scheme, then DC, at every learning rate."""
    rows = [Cell(scheme, "", config(scale, scheme=scheme)) for scheme in scale.schemes]
    dc = Cell("intra, cosine (DC)", "", config(scale, scheme="intra", distance="cosine"))
    return at_rates([*rows, dc], scale)


def make(scale: Settings, typed: str) -> None:
    """Runs the cells, writes table1_levels.md, .csv, .png and .html."""
    scale = resolve(scale, NAME)
    found = run(cells(scale), scale)
    column_of = lambda one: one.column or "accuracy"
    tables = [accuracy_table("scheme", found, column_of)]
    tables += difference_tables("multi-level", found, column_of)
    save(Page(NAME, "Levels of matching", typed), tables, found, scale)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    return table.main(NAME, __doc__, make, arguments, Settings)


if __name__ == "__main__":
    sys.exit(main())
