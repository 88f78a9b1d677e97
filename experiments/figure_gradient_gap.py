"""The gap between the gradients of synthetic and of real images while a network trains.

    python -m experiments.figure_gradient_gap --smoke
    python -m experiments.figure_gradient_gap --ipc 10 --iterations 100 --out results/gap

Images are condensed by the angle alone and by angle and magnitude.  A fresh network is trained on
them; before every epoch the class-balanced gradients of the synthetic images and of a batch of real
ones are compared as whole vectors: the angle between them, and the length of their difference.
arXiv 2208.00311 argues that the angle alone leaves the magnitudes apart.
"""

import csv
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.figures import panels
from experiments.sweep import Cell, Scale, condensed, config, settled
from experiments.table import main as table_main
from gm_jax.config import build_method
from gm_jax.core import iteration, schemes, training
from gm_jax.core.distances import cosine_global, mse_global
from gm_jax.core.signals import class_mean
from gm_jax.data.images import draw_classes
from gm_jax.data.loading import load
from gm_jax.storage import run_folder

DISTANCES = ("cosine", "cosine+l2")


@dataclasses.dataclass(frozen=True)
class Settings(Scale):
    """How much of everything."""

    train_epochs: int = 50
    """Epochs of training on the synthetic images."""
    lives: int = 5
    """Fresh networks, on one set; --seeds, --count and --epochs are not used."""


class Gap(NamedTuple):
    """Between the two gradients, a number an epoch: `[lives, epochs]`.

    Attributes:
        degrees: the angle.
        length: ||gS - gT||.
        ratio: ||gS - gT|| / ||gT||.
    """

    degrees: np.ndarray
    length: np.ndarray
    ratio: np.ndarray


def look(cell: Cell, folder: Path, settings: Settings) -> Gap:
    """Trains fresh networks on the condensed images."""
    dataset = load(cell.config.dataset)
    method = build_method(cell.config, dataset)
    images = jnp.asarray(run_folder.read_synthetic(folder).images[0])
    groups = images.reshape(-1, cell.config.ipc, *images.shape[1:])
    groups = (groups, schemes.class_labels(groups))
    labels = groups[1].reshape(-1)
    train = training.epoch(
        method.network, method.network_optimiser, method.batch_train, method.microbatch
    )

    def life(key):
        network_key, epochs_key = jax.random.split(key)
        state = training.start(network_key, method.network, method.network_optimiser)

        def step(state, number):
            real_key, order_key = jax.random.split(jax.random.fold_in(epochs_key, number))
            real = draw_classes(real_key, dataset.train, cell.config.batch_real)
            of = lambda groups: class_mean(iteration.group_signals(method, state, groups))
            found = gap(of(groups), of(real))
            return train(order_key, state, images, labels)[0], found

        return jax.lax.scan(step, state, jnp.arange(settings.train_epochs))[1]

    keys = jax.random.split(jax.random.key(1), settings.lives)
    return Gap(*map(np.asarray, jax.jit(lambda keys: jax.lax.map(life, keys))(keys)))


def gap(synthetic: dict, real: dict) -> Gap:
    """The angle in degrees, and the difference's length, of two whole gradients."""
    degrees = jnp.degrees(jnp.arccos(jnp.clip(1 - cosine_global(synthetic, real), -1, 1)))
    length = jnp.sqrt(mse_global(synthetic, real))
    zero = jax.tree.map(jnp.zeros_like, real)
    return Gap(degrees, length, length / jnp.sqrt(mse_global(zero, real)))


def make(scale: Settings, command: str) -> None:
    """Runs the cells and the lives, writes figure_gradient_gap.md, .csv and .png."""
    scale = settled(scale, "figure_gradient_gap")
    if scale.smoke:
        scale = dataclasses.replace(scale, train_epochs=3, lives=2)
    gaps = {}
    for distance in DISTANCES:
        cell = Cell(distance, "", config(scale, distance=distance, seeds=1))
        gaps[distance] = look(cell, condensed(cell, scale.out), scale)
        jax.clear_caches()
    _write(scale, gaps, command)


def _write(scale: Settings, gaps: dict[str, Gap], command: str) -> None:
    scale.out.mkdir(parents=True, exist_ok=True)
    path = scale.out / "figure_gradient_gap"
    with run_folder.atomic(path.with_suffix(".csv")) as draft, draft.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["distance", "life", "epoch", *Gap._fields])
        for distance, gap in gaps.items():
            for (number, epoch), _ in np.ndenumerate(gap.degrees):
                values = [f"{part[number, epoch]:.5g}" for part in gap]
                writer.writerow([distance, number, epoch, *values])
    with run_folder.atomic(path.with_suffix(".png")) as draft:
        shown = {name: (gap.degrees, gap.ratio) for name, gap in gaps.items()}
        panels(draft, "epoch", ("angle, degrees", "|gS - gT| / |gT|"), shown)
    lines = ["| distance | angle, degrees | gS - gT | gS - gT, share of gT |", "|---|---|---|---|"]
    for distance, gap in gaps.items():
        means = " | ".join(f"{part.mean():.3g} ± {part.mean(1).std():.2g}" for part in gap)
        lines.append(f"| {distance} | {means} |")
    table = "\n".join(lines)
    page = (
        f"# The gap between gradients\n\n{table}\n\nMeans over {scale.train_epochs} epochs; ± is "
    )
    page += (
        f"the standard deviation over {scale.lives} networks. {scale.dataset}, ipc {scale.ipc}, "
    )
    page += f"{scale.iterations} iterations.\n\n    {command}\n"
    with run_folder.atomic(path.with_suffix(".md")) as draft:
        draft.write_text(page)
    print(f"{table}\n{path}.md, .csv, .png")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    return table_main("figure_gradient_gap", __doc__, make, arguments, Settings)


if __name__ == "__main__":
    sys.exit(main())
