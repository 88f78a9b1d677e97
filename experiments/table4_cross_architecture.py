"""Do the images teach networks that they were not made with?

    python -m experiments.table4_cross_architecture --smoke
    python -m experiments.table4_cross_architecture --ipc 1 --out results/cross

A row a network that the images are condensed with, a column a network trained on them.  The last
columns are variants of ConvNet: width, depth, activation, norm, pooling.
"""

import dataclasses
import sys
from collections.abc import Sequence

from experiments.sweep import Cell, Scale, config, markdown, run, save, settled
from experiments.table import main as table_main

ARCHITECTURES = ("mlp", "convnet", "lenet", "alexnet", "vgg11", "resnet18")

VARIANTS = (
    *(f"convnet:width={width}" for width in (32, 64, 256)),
    *(f"convnet:depth={depth}" for depth in (1, 2, 4)),
    *(f"convnet:activation={name}" for name in ("sigmoid", "leaky-relu")),
    *(f"convnet:norm={name}" for name in ("none", "batch", "layer", "group")),
    *(f"convnet:pooling={name}" for name in ("none", "max")),
)


@dataclasses.dataclass(frozen=True)
class Settings(Scale):
    """How much of everything, and on which networks."""

    sources: tuple[str, ...] = ("convnet",)
    """Networks to condense with."""
    targets: tuple[str, ...] = (*ARCHITECTURES, *VARIANTS)
    """Networks to train on the images."""


def cells(scale: Settings) -> list[Cell]:
    """A row a source."""
    targets = ("mlp", "convnet", "convnet:norm=none") if scale.smoke else scale.targets
    return [Cell(name, "", config(scale, network=name), targets) for name in scale.sources]


def make(scale: Settings, command: str) -> None:
    """Runs the cells, writes table4_cross_architecture.md, .csv and .png."""
    scale = settled(scale, "table4_cross_architecture")
    found = run(cells(scale), scale)
    table = markdown("condensed with", found, lambda one: one.network, {})
    name = "table4_cross_architecture"
    save(name, "Trained on another network's images", table, found, scale, command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    return table_main("table4_cross_architecture", __doc__, make, arguments, Settings)


if __name__ == "__main__":
    sys.exit(main())
