"""The paper's parts one by one, beside coresets, the whole set, and the published DC.

    python -m experiments.table3_main --smoke
    python -m experiments.table3_main --datasets mnist cifar10 --ipcs 1 10 50 --out results/main

Rows: coresets; DC (single classes, angle alone, fixed steps); M, with multi-level matching; MD,
with the paper's distance too; MDA, with its published schedule of inner epochs, and with the rule
that the schedule stands for.  The paper's own values could not be obtained; DC's are from its own
paper.
"""

import dataclasses
import sys
from collections.abc import Sequence

from experiments.published import DC
from experiments.rivals import RIVALS, rival
from experiments.sweep import Cell, Found, Scale, config, markdown, run, save, settled
from experiments.table import main as table_main
from gm_jax.errors import UserError

METHODS = {
    "DC": {"scheme": "intra", "distance": "cosine", "step_rule": "fixed"},
    "M": {"scheme": "multi-level", "distance": "cosine", "step_rule": "fixed"},
    "MD": {"scheme": "multi-level", "distance": "cosine+l2", "step_rule": "fixed"},
    "MDA": {"scheme": "multi-level", "distance": "cosine+l2", "step_rule": "schedule"},
    "MDA, by the rule": {"scheme": "multi-level", "distance": "cosine+l2", "step_rule": "overfit"},
}


@dataclasses.dataclass(frozen=True)
class Settings(Scale):
    """How much of everything, and on which data."""

    datasets: tuple[str, ...] = ("mnist5k",)
    """Data sets, in place of --dataset."""
    ipcs: tuple[int, ...] = (1, 10, 50)
    """Images a class, in place of --ipc."""
    whole_epochs: int = 60
    """Epochs of evaluation on the whole training set."""


def make(scale: Settings, command: str) -> None:
    """Runs the cells, writes table3_main.md, .csv and .png."""
    if (scale.dataset, scale.ipc) != (Scale.dataset, Scale.ipc):
        raise UserError("this table has --datasets and --ipcs, not --dataset and --ipc")
    scale = settled(scale, "table3_main")
    if scale.smoke:
        scale = dataclasses.replace(scale, datasets=("digits",), ipcs=(1,), whole_epochs=1)
    found: list[Found] = []
    for dataset in scale.datasets:
        for ipc in scale.ipcs:
            at = dataclasses.replace(scale, dataset=dataset, ipc=ipc)
            column = f"{dataset}, {ipc}"
            cells = [Cell(name, column, config(at, **own)) for name, own in METHODS.items()]
            found += [rival(kind, at, column, scale.whole_epochs) for kind in RIVALS]
            found += run(cells, at)
    table = markdown("method", found, lambda one: one.column, {"DC, published": published(found)})
    save("table3_main", "The method's parts and its rivals", table, found, scale, command)


def published(found: Sequence[Found]) -> dict[str, str]:
    """DC's own numbers for the columns that there are."""
    columns = dict.fromkeys(one.column for one in found)
    return {column: DC[column] for column in columns if column in DC}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    return table_main("table3_main", __doc__, make, arguments, Settings)


if __name__ == "__main__":
    sys.exit(main())
