"""A table at several learning rates of the images: what differs may be the rate that suits it."""

import dataclasses
from collections.abc import Sequence
from typing import Annotated

from experiments.sweep import Cell, Scale
from gm_jax.checks import POSITIVE


@dataclasses.dataclass(frozen=True)
class RatedScale(Scale):
    """The size of every condensation and evaluation; the defaults are the paper's."""

    image_lrs: tuple[Annotated[float, POSITIVE], ...] = ()
    """Learning rates of the images, a column each: what is matched decides how long a step is, so a
    row may be better by its rate alone. Default: one column, at the paper's rate."""


def at_rates(cells: Sequence[Cell], scale: RatedScale) -> list[Cell]:
    """The cells once for each learning rate, in columns of their own; as they are without any."""
    if not scale.image_lrs:
        return list(cells)
    return [_at(cell, rate) for rate in scale.image_lrs for cell in cells]


def _at(cell: Cell, rate: float) -> Cell:
    words = (f"image lr {rate:g}", cell.column)
    config = dataclasses.replace(cell.config, image_lr=(rate,))
    return cell._replace(column=", ".join(filter(None, words)), config=config)
