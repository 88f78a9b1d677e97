"""By what distance: the angle, the magnitude, or both, of each output unit's gradient or of all.

    python -m experiments.table2_distances --smoke
    python -m experiments.table2_distances --ipc 1 --out results/distances

The paper's ablation of its distance (arXiv 2208.00311); its values could not be obtained, so none
are shown.  Everything else is as in the paper: multi-level, the overfitting-aware rule.
"""

import sys
from collections.abc import Sequence

from experiments.sweep import Cell, Scale, config, markdown, run, save, settled
from experiments.table import main as table_main
from gm_jax.core.distances import DISTANCES


def cells(scale: Scale) -> list[Cell]:
    """A row a distance."""
    return [Cell(name, "", config(scale, distance=name)) for name in DISTANCES]


def make(scale: Scale, command: str) -> None:
    """Runs the cells, writes table2_distances.md, .csv and .png."""
    scale = settled(scale, "table2_distances")
    found = run(cells(scale), scale)
    table = markdown("distance", found, lambda one: "accuracy", {})
    save("table2_distances", "Distances between gradients", table, found, scale, command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    return table_main("table2_distances", __doc__, make, arguments)


if __name__ == "__main__":
    sys.exit(main())
