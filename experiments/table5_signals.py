"""Which signal: the gradient, or one of higher order, at equal iterations and at equal minutes.

    python -m experiments.table5_signals --smoke
    python -m experiments.table5_signals --dataset digits --ipcs 1 10 --seeds 10
    python -m experiments.table5_signals --dataset digits --variants my_research:with_mine

Every row is the paper's method with another signal (see `experiments.signal_variants`).  Equal
minutes are those that the gradient's iterations take on this machine, compilation left out; seconds
per iteration are measured once, and kept in OUT/seconds.json: let nothing else run at that moment.
Each row is also compared with the gradient in pairs, set by set, at every learning rate.
"""

import dataclasses
import sys
from collections.abc import Sequence
from typing import Annotated

from experiments import command, table
from experiments.pacing import measured
from experiments.page import Page, accuracy_table, difference_tables, save
from experiments.rates import RatedScale, at_rates
from experiments.sweep import Cell, check_cell, config, resolve, run
from gm_jax.checks import Count
from gm_jax.errors import UserError

NAME = "table5_signals"

GRADIENT = "gradient"

SIGNALS = {
    "2 steps": "two_steps",
    "4 steps": "four_steps",
    "Hessian x gradient": "hessian_gradient",
    "gradient and head curvature": "head_curvature",
    "gradient and features": "with_features",
}
"""Functions of `experiments.signal_variants`."""


@dataclasses.dataclass(frozen=True)
class Settings(RatedScale):
    """The size of every condensation and evaluation; the defaults are the paper's."""

    ipcs: Annotated[tuple[Count, ...], command.SOME] = (1, 10)
    """Synthetic images of each class, one after the other; instead of --ipc."""
    variants: tuple[str, ...] = ()
    """Further rows: changes of the method, MODULE:FUNCTION, as `gm-jax condense --variant`."""


def rows(scale: Settings) -> list[Cell]:
    """The cells at equal iterations: for every number of images, the gradient and all others."""
    variants = {name: f"experiments.signal_variants:{of}" for name, of in SIGNALS.items()}
    variants |= {name: name for name in scale.variants}
    found = []
    for ipc in scale.ipcs:
        settings, column = config(scale, ipc=ipc), f"ipc {ipc}"
        found.append(Cell(GRADIENT, column, settings))
        found += [Cell(row, column, settings, variant=name) for row, name in variants.items()]
    return found


def at_equal_minutes(cells: Sequence[Cell], seconds: dict[str, float]) -> list[Cell]:
    """The cells of the others once more, with iterations that take as long as the gradient's."""
    of_gradient = {cell.column: seconds[cell.name] for cell in cells if cell.row == GRADIENT}
    found = []
    for cell in cells:
        if cell.row != GRADIENT:
            ratio = of_gradient[cell.column] / seconds[cell.name]
            iterations = max(1, round(cell.config.iterations * ratio))
            changed = dataclasses.replace(cell.config, iterations=iterations)
            column = f"{cell.column}, equal minutes"
            found.append(cell._replace(column=column, config=changed))
    return found


def make(scale: Settings, typed: str) -> None:
    """Runs the cells, writes table5_signals.md, .csv, .png and .html."""
    scale = resolve(scale, NAME)
    scale = dataclasses.replace(scale, ipcs=(1,)) if scale.smoke else scale
    if scale.ipc != Settings.ipc:
        raise UserError("--ipc has no meaning here: see --ipcs")
    cells = rows(scale)
    for cell in cells:
        check_cell(cell)
    seconds = measured(cells, scale)
    found = run(at_rates(cells + at_equal_minutes(cells, seconds), scale), scale)
    again = [one for one in found if one.row == GRADIENT]
    found += [one._replace(column=f"{one.column}, equal minutes") for one in again]
    column_of = lambda one: one.column
    tables = [accuracy_table("signal", found, column_of)]
    tables += difference_tables(GRADIENT, found, column_of)
    cells_are = f"the gradient's iterations: {scale.iterations}"
    save(Page(NAME, "Signals", typed, cells_are), tables, found, scale)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    return table.main(NAME, __doc__, make, arguments, Settings)


if __name__ == "__main__":
    sys.exit(main())
