"""How many inner epochs the step rules take, and how well the network does by then.

    python -m experiments.figure_step_rules --smoke
    python -m experiments.figure_step_rules --ipc 10 --iterations 100 --out results/step_rules

Images are condensed under each rule.  Then fresh networks live one more iteration on them, and
after each outer step two things are noted: the inner epochs taken, and the loss on the test images,
which no rule sees.  The rule of arXiv 2208.00311 is to take fewer where more would overfit.
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
from experiments.sweep import Cell, Found, Scale, config, markdown, run, settled
from experiments.table import main as table_main
from gm_jax.config import STEP_RULES, build_method
from gm_jax.core import iteration, training
from gm_jax.core.signals import cross_entropy, microbatched
from gm_jax.data.loading import load
from gm_jax.evaluation.protocol import test_set
from gm_jax.storage import run_folder


@dataclasses.dataclass(frozen=True)
class Settings(Scale):
    """How much of everything."""

    ipc: int = 10
    """Synthetic images a class; with one, there is one outer step and nothing to show."""
    lives: int = 5
    """Fresh networks whose lives are looked at, on the first set."""


class Life(NamedTuple):
    """A network's life, a number an outer step: `[lives, outer_steps]`."""

    inner_epochs: np.ndarray
    loss: np.ndarray


def look(cell: Cell, folder: Path, lives: int) -> Life:
    """One more iteration of fresh networks on the condensed images."""
    dataset = load(cell.config.dataset)
    method = build_method(cell.config, dataset)
    synthetic = run_folder.read_synthetic(folder)
    images = jnp.asarray(synthetic.images[0])
    images = images.reshape(-1, cell.config.ipc, *images.shape[1:])

    test = test_set(dataset)

    def life(key):
        network_key, steps_key = jax.random.split(key)
        network = training.start(network_key, method.network, method.network_optimiser)

        def step(carry, number):
            zero = jnp.zeros((), jnp.int32)
            place = iteration.Place(zero, number, number == method.outer_steps - 1)
            step_key = jax.random.fold_in(steps_key, number)
            carry, info = iteration.outer_step(method, step_key, dataset.train, carry, place)
            return carry, (info.inner_epochs, _loss(method, carry[2], test))

        carry = (images, method.image_optimiser.init(images), network)
        return jax.lax.scan(step, carry, jnp.arange(method.outer_steps))[1]

    keys = jax.random.split(jax.random.key(1), lives)
    found = jax.jit(lambda keys: jax.lax.map(life, keys))(keys)
    return Life(*map(np.asarray, found))


def _loss(method: iteration.Method, state: training.NetworkState, test: tuple) -> jax.Array:
    of = lambda params, x, y: cross_entropy(method.network.apply(params, state.stats, x), y)
    return microbatched(of, method.microbatch)(state.params, *test)


def make(scale: Settings, command: str) -> None:
    """Runs the cells and the lives, writes figure_step_rules.md, .csv and .png."""
    scale = settled(scale, "figure_step_rules")
    if scale.smoke:
        scale = dataclasses.replace(scale, ipc=2, lives=2)
    steps = {"outer_steps": 3} if scale.smoke else {}
    cells = [Cell(rule, "", config(scale, step_rule=rule, **steps)) for rule in STEP_RULES]
    found, lives = [], {}
    for cell in cells:
        found += run([cell], scale)
        lives[cell.row] = look(cell, scale.out / "cells" / cell.row, scale.lives)
        jax.clear_caches()
    _write(scale, found, lives, command)


def _write(scale: Settings, found: Sequence[Found], lives: dict[str, Life], command: str) -> None:
    scale.out.mkdir(parents=True, exist_ok=True)
    path = scale.out / "figure_step_rules"
    with run_folder.atomic(path.with_suffix(".csv")) as draft, draft.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["rule", "life", "outer_step", "inner_epochs", "loss"])
        for rule, life in lives.items():
            for number, rows in enumerate(zip(life.inner_epochs, life.loss)):
                for step, (epochs, loss) in enumerate(zip(*rows)):
                    writer.writerow([rule, number, step, int(epochs), f"{loss:.5f}"])
    with run_folder.atomic(path.with_suffix(".png")) as draft:
        shown = {rule: (life.inner_epochs[:, :-1], life.loss) for rule, life in lives.items()}
        panels(draft, "outer step", ("inner epochs", "loss on test images"), shown)
    table = markdown("step rule", found, lambda one: "accuracy", {})
    taken = [
        f"{f.row}: {f.inner_epochs:.1f} inner epochs an iteration, {f.seconds:.0f} s" for f in found
    ]
    page = f"# Step rules\n\n{table}\n\n" + "\n".join(f"- {line}" for line in taken)
    page += f"\n\nipc {scale.ipc}, {scale.iterations} iterations, {scale.batch_real} real images a "
    page += f"class, {scale.lives} lives.\n\n    {command}\n"
    with run_folder.atomic(path.with_suffix(".md")) as draft:
        draft.write_text(page)
    print(f"{table}\n{path}.md, .csv, .png")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    return table_main("figure_step_rules", __doc__, make, arguments, Settings)


if __name__ == "__main__":
    sys.exit(main())
