"""Do the images train networks of other architectures than the one they were condensed with?

    python -m experiments.table4_cross_architecture --smoke
    python -m experiments.table4_cross_architecture --ipc 1 --out results/cross

A row for each network that images are condensed with, a column for each network trained on them.
The last columns are modified ConvNets: width, depth, activation, norm, pooling.
"""

import dataclasses
import sys
from collections.abc import Sequence
from typing import Annotated

from experiments import command, table
from experiments.page import Page, accuracy_table, save
from experiments.sweep import Cell, Scale, config, resolve, run
from gm_jax.config import NetworkName

NAME = "table4_cross_architecture"

ARCHITECTURES = ("mlp", "convnet", "lenet", "alexnet", "vgg11", "resnet18")

CONVNETS = (
    *(f"convnet:width={width}" for width in (32, 64, 256)),
    *(f"convnet:depth={depth}" for depth in (1, 2, 4)),
    *(f"convnet:activation={name}" for name in ("sigmoid", "leaky-relu")),
    *(f"convnet:norm={name}" for name in ("none", "batch", "layer", "group")),
    *(f"convnet:pooling={name}" for name in ("none", "max")),
)


@dataclasses.dataclass(frozen=True)
class Settings(Scale):
    """The size of every condensation and evaluation, and the networks."""

    sources: Annotated[tuple[NetworkName, ...], command.SOME] = ("convnet",)
    """Networks to condense with."""
    targets: Annotated[tuple[str, ...], command.SOME] = (*ARCHITECTURES, *CONVNETS)
    """Networks to train on the images, as in `gm-jax evaluate --networks`."""


def cells(scale: Settings) -> list[Cell]:
    """A row for each source."""
    targets = ("mlp", "convnet", "convnet:norm=none") if scale.smoke else scale.targets
    return [Cell(name, "", config(scale, network=name), targets) for name in scale.sources]


def make(scale: Settings, typed: str) -> None:
    """Runs the cells, writes table4_cross_architecture.md, .csv, .png and .html."""
    scale = resolve(scale, NAME)
    found = run(cells(scale), scale)
    rows = accuracy_table("condensed with", found, lambda one: one.network)
    save(Page(NAME, "Trained on another network's images", typed), [rows], found, scale)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    return table.main(NAME, __doc__, make, arguments, Settings)


if __name__ == "__main__":
    sys.exit(main())
