"""The parts of the method one by one, beside coresets, the full set, and published numbers.

    python -m experiments.table3_main --smoke
    python -m experiments.table3_main --datasets mnist cifar10 --ipcs 1 10 50 --out results/main

Rows: coresets; DC (single classes, angle alone, fixed steps); M, with multi-level matching; MD,
with the paper's distance too; MDA, with its published schedule of inner epochs, and with the rule
that the schedule stands for.  The paper's own values could not be obtained; those of
DC, DSA and IDC are in `gm_jax.evaluation.published`.
"""

import dataclasses
import sys
from collections.abc import Sequence
from typing import Annotated

from experiments import command, table
from experiments.page import Page, accuracy_table, save
from experiments.rivals import RIVALS, rival
from experiments.sweep import Cell, Scale, config, resolve, run
from gm_jax.checks import Count
from gm_jax.errors import UserError
from gm_jax.evaluation.published import PUBLISHED

NAME = "table3_main"

METHODS = {
    "DC": {"scheme": "intra", "distance": "cosine", "step_rule": "fixed"},
    "M": {"scheme": "multi-level", "distance": "cosine", "step_rule": "fixed"},
    "MD": {"scheme": "multi-level", "distance": "cosine+l2", "step_rule": "fixed"},
    "MDA": {"scheme": "multi-level", "distance": "cosine+l2", "step_rule": "schedule"},
    "MDA, by the rule": {"scheme": "multi-level", "distance": "cosine+l2", "step_rule": "overfit"},
}


@dataclasses.dataclass(frozen=True)
class Settings(Scale):
    """The size of every condensation and evaluation, and the data."""

    datasets: Annotated[tuple[str, ...], command.SOME] = ("mnist5k",)
    """Data sets, in place of --dataset."""
    ipcs: Annotated[tuple[Count, ...], command.SOME] = (1, 10, 50)
    """Images of each class, in place of --ipc."""
    full_epochs: Count = 60
    """Epochs of evaluation on the full training set."""


def make(scale: Settings, typed: str) -> None:
    """Runs the cells, writes table3_main.md, .csv, .png and .html."""
    if (scale.dataset, scale.ipc) != (Scale.dataset, Scale.ipc):
        raise UserError("this table has --datasets and --ipcs, not --dataset and --ipc")
    scale = resolve(scale, NAME)
    if scale.smoke:
        scale = dataclasses.replace(scale, datasets=("digits",), ipcs=(1,), full_epochs=1)
    columns = {
        f"{dataset}, {ipc}": dataclasses.replace(scale, dataset=dataset, ipc=ipc)
        for dataset in scale.datasets
        for ipc in scale.ipcs
    }
    cells = [
        Cell(name, column, config(of_column, **own))
        for column, of_column in columns.items()
        for name, own in METHODS.items()
    ]
    ours = run(cells, scale)
    rivals = [
        rival(kind, of_column, column, scale.full_epochs)
        for column, of_column in columns.items()
        for kind in RIVALS
    ]
    found = [*rivals, *ours]
    rows = accuracy_table("method", found, lambda one: one.column, published_rows())
    save(Page(NAME, "The method's parts and its rivals", typed), [rows], found, scale)


def published_rows() -> dict[str, dict[str, str]]:
    """Published numbers by method, for the columns of the table."""
    return {
        f"{method}, published": {f"{name}, {ipc}": text for (name, ipc), text in of.items()}
        for method, of in PUBLISHED.items()
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    return table.main(NAME, __doc__, make, arguments, Settings)


if __name__ == "__main__":
    sys.exit(main())
