"""The gap between the gradients of synthetic and of real images while a network trains.

    python -m experiments.figure_gradient_gap --smoke
    python -m experiments.figure_gradient_gap --ipc 10 --iterations 100 --out results/gap

Images are condensed with the angle alone, and with angle and magnitude.  Fresh networks are trained
on them; before every epoch the class-balanced gradients of the synthetic images and of a batch of
real ones are compared as single vectors: the angle between them, and the length of their
difference.  arXiv 2208.00311 argues that the angle alone leaves the magnitudes apart.
"""

import csv
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import table
from experiments.figures import panels
from experiments.page import write_page
from experiments.sweep import (
    Cell,
    Scale,
    condense_cell,
    config,
    fan_out,
    first_images,
    load_once,
    resolve,
)
from gm_jax.build import build_method
from gm_jax.checks import Count, flag
from gm_jax.core import training
from gm_jax.core.distances import cosine_global, mse_global
from gm_jax.core.iteration import group_signals
from gm_jax.core.schemes import all_images
from gm_jax.data.spread import class_mean
from gm_jax.errors import UserError
from gm_jax.storage import files

NAME = "figure_gradient_gap"

DISTANCES = ("cosine", "cosine+l2")


@dataclasses.dataclass(frozen=True)
class Settings(Scale):
    """The size of every condensation; --seeds, --count and --epochs are not used."""

    train_epochs: Count = 50
    """Epochs of training on the synthetic images."""
    networks: Count = 5
    """Fresh networks that are trained."""


class Gap(NamedTuple):
    """Between the two gradients, before each epoch: `[networks, epochs]`.

    Attributes:
        degrees: the angle.
        length: ||gS - gT||.
        ratio: ||gS - gT|| / ||gT||.
    """

    degrees: Any
    length: Any
    ratio: Any


def observe(cell: Cell, settings: Settings) -> Gap:
    """Trains fresh networks on the condensed images."""
    dataset = load_once(cell.config.dataset)
    method = build_method(cell.config, dataset)
    (scheme,) = method.schemes
    by_class = first_images(cell, settings)
    optimiser = method.network_optimiser(method.network_lr)
    train = training.epoch(method.network, optimiser, method.batch_train, method.microbatch)
    everything = all_images(by_class)

    def of_network(key):
        network_key, key = jax.random.split(key)
        network = training.start(network_key, method.network, optimiser)

        def epoch(network, key):
            real_key, synthetic_key, order_key = jax.random.split(key, 3)
            real = scheme.real(real_key, dataset.train)
            synthetic = scheme.synthetic(synthetic_key, by_class)
            mean_of = lambda groups: class_mean(group_signals(method, network, groups))
            found = gap(mean_of(synthetic), mean_of(real))
            keys = training.EpochKeys(order_key, jax.random.fold_in(order_key, 1))
            return train(keys, network, everything)[0], found

        return jax.lax.scan(epoch, network, jax.random.split(key, settings.train_epochs))[1]

    keys = jax.random.split(jax.random.key(1), settings.networks)
    found = jax.jit(lambda keys: jax.lax.map(of_network, keys))(keys)
    jax.clear_caches()
    return Gap(*map(np.asarray, found))


def gap(synthetic: dict, real: dict) -> Gap:
    """The angle in degrees, and the difference's length, of two gradients as single vectors."""
    degrees = jnp.degrees(jnp.arccos(jnp.clip(1 - cosine_global(synthetic, real), -1, 1)))
    length = jnp.sqrt(mse_global(synthetic, real))
    zero = jax.tree.map(jnp.zeros_like, real)
    return Gap(degrees, length, length / jnp.sqrt(mse_global(zero, real)))


def make(scale: Settings, typed: str) -> None:
    """Runs the cells, observes networks, writes figure_gradient_gap.md, .csv and .png."""
    for name in ("seeds", "count", "epochs"):
        if getattr(scale, name) != getattr(Scale, name):
            raise UserError(f"{flag(name)} has no meaning here: see --networks, --train-epochs")
    scale = resolve(scale, NAME)
    if scale.smoke:
        scale = dataclasses.replace(scale, train_epochs=3, networks=2)
    cells = [Cell(name, "", config(scale, distance=name, seeds=1)) for name in DISTANCES]
    fan_out(cells, scale, lambda cell: condense_cell(cell, scale))
    gaps = {}
    for cell in cells:
        condense_cell(cell, scale)
        gaps[cell.row] = observe(cell, scale)
    _write(scale, gaps, typed)


def _write(scale: Settings, gaps: dict[str, Gap], typed: str) -> None:
    scale.folder.mkdir(parents=True, exist_ok=True)
    path = scale.folder / NAME
    with files.atomic(path.with_suffix(".csv")) as draft:
        _write_csv(draft, gaps)
    with files.atomic(path.with_suffix(".png")) as draft:
        shown = {name: (gap.degrees, gap.ratio) for name, gap in gaps.items()}
        panels(draft, "epoch", ("angle, degrees", "|gS - gT| / |gT|"), shown)
    lines = ["| distance | angle, degrees | gS - gT | gS - gT, share of gT |", "|---|---|---|---|"]
    for distance, gap in gaps.items():
        means = " | ".join(f"{part.mean():.3g} ± {part.mean(1).std():.2g}" for part in gap)
        lines.append(f"| {distance} | {means} |")
    rows = "\n".join(lines)
    caption = (
        f"Means over {scale.train_epochs} epochs; ± is the standard deviation over "
        f"{scale.networks} networks. {scale.dataset}, ipc {scale.ipc}, {scale.iterations} "
        "iterations."
    )
    write_page(path.with_suffix(".md"), "The gap between gradients", rows, caption, typed)
    print(f"{rows}\n{path}.md, .csv, .png")


def _write_csv(path: Path, gaps: dict[str, Gap]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["distance", "network", "epoch", *Gap._fields])
        for distance, gap in gaps.items():
            for (network, epoch), _ in np.ndenumerate(gap.degrees):
                values = [f"{part[network, epoch]:.5g}" for part in gap]
                writer.writerow([distance, network, epoch, *values])


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    return table.main(NAME, __doc__, make, arguments, Settings)


if __name__ == "__main__":
    sys.exit(main())
