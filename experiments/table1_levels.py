"""Which gradients to match: each class's, those of mixed classes, in turn, or both at once.

    python -m experiments.table1_levels --smoke
    python -m experiments.table1_levels --ipc 1 --out results/levels

The paper's table 1 (arXiv 2208.00311) asks the same; its values could not be obtained, so none are
shown.  One thing is changed at a time from the paper's settings; the last row is the DC baseline
(arXiv 2006.05929): single classes, and the angle alone.
"""

import sys
from collections.abc import Sequence

from experiments.sweep import Cell, Scale, config, markdown, run, save, settled
from experiments.table import main as table_main
from gm_jax.config import SCHEMES


def cells(scale: Scale) -> list[Cell]:
    """A row a scheme, then the baseline."""
    rows = [Cell(scheme, "", config(scale, scheme=scheme)) for scheme in SCHEMES]
    return [*rows, Cell("intra, cosine (DC)", "", config(scale, scheme="intra", distance="cosine"))]


def make(scale: Scale, command: str) -> None:
    """Runs the cells, writes table1_levels.md, .csv and .png."""
    scale = settled(scale, "table1_levels")
    found = run(cells(scale), scale)
    table = markdown("scheme", found, lambda one: "accuracy", {})
    save("table1_levels", "Levels of matching", table, found, scale, command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    return table_main("table1_levels", __doc__, make, arguments)


if __name__ == "__main__":
    sys.exit(main())
