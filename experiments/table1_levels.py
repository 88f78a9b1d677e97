"""Which gradients to match: each class's, those of mixed classes, in turn, or both at once.

    python -m experiments.table1_levels --smoke
    python -m experiments.table1_levels --ipc 1 --out results/levels

Table 1 of the paper (arXiv 2208.00311) compares the same schemes; its values could not be obtained,
so none are shown.  One setting at a time differs from the paper's; the last row is the DC baseline
(arXiv 2006.05929), which matches single classes by the angle alone.
"""

import sys
from collections.abc import Sequence

from experiments import table
from experiments.sweep import Cell, Page, Scale, accuracy_table, config, resolve, run, save

NAME = "table1_levels"

SCHEMES = ("intra", "inter", "interleaved", "multi-level")


def cells(scale: Scale) -> list[Cell]:
    """A row for each scheme, then the baseline."""
    rows = [Cell(scheme, "", config(scale, scheme=scheme)) for scheme in SCHEMES]
    return [*rows, Cell("intra, cosine (DC)", "", config(scale, scheme="intra", distance="cosine"))]


def make(scale: Scale, command: str) -> None:
    """Runs the cells, writes table1_levels.md, .csv, .png and .html."""
    scale = resolve(scale, NAME)
    found = run(cells(scale), scale)
    rows = accuracy_table("scheme", found, lambda one: "accuracy")
    save(Page(NAME, "Levels of matching", command), [rows], found, scale)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    return table.main(NAME, __doc__, make, arguments, Scale)


if __name__ == "__main__":
    sys.exit(main())
