"""How many inner epochs each step rule runs, and how well the network does by then.

    python -m experiments.figure_step_rules --smoke
    python -m experiments.figure_step_rules --ipc 10 --iterations 100 --out results/step_rules

Images are condensed with each rule.  Then one more iteration is run from them with several fresh
networks.  After each outer step it records the inner epochs, and the loss on the test images, which
no rule sees.  The rule of arXiv 2208.00311 runs fewer epochs where more would overfit.
"""

import csv
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, get_args

import jax
import numpy as np

from experiments import table
from experiments.figures import panels
from experiments.page import accuracy_table, caption, difference_tables, write_page
from experiments.sweep import Cell, Found, Scale, config, first_images, load_once, resolve, run
from gm_jax.build import build_method
from gm_jax.checks import Count
from gm_jax.config import StepRuleName
from gm_jax.core.iteration import init, outer_steps
from gm_jax.core.training import mean_loss
from gm_jax.data.images import Batch
from gm_jax.evaluation.protocol import test_set
from gm_jax.storage import files

NAME = "figure_step_rules"


@dataclasses.dataclass(frozen=True)
class Settings(Scale):
    """The size of every condensation and evaluation."""

    ipc: Count = 10
    """Synthetic images of each class; with one, there is one outer step and nothing to show."""
    networks: Count = 5
    """Fresh networks that are observed, on the first set."""


class Observed(NamedTuple):
    """What was observed after each outer step: `[networks, outer_steps]`.

    Attributes:
        inner_epochs: after the step; 0 for the last one.
        loss: on the test images.
    """

    inner_epochs: np.ndarray
    loss: np.ndarray


def observe(cell: Cell, settings: Settings) -> Observed:
    """Runs one more iteration of fresh networks from the condensed images."""
    dataset = load_once(cell.config.dataset)
    method = build_method(cell.config, dataset)
    start = init(method, first_images(cell, settings))
    test = Batch(*test_set(dataset))
    test_loss = lambda state: mean_loss(method.network, state.network, test, method.microbatch)

    def of_network(key):
        _, (info, loss) = outer_steps(method, key, dataset.train, start, test_loss)
        return info.inner_epochs, loss

    keys = jax.random.split(jax.random.key(1), settings.networks)
    found = jax.jit(lambda keys: jax.lax.map(of_network, keys))(keys)
    jax.clear_caches()
    return Observed(*map(np.asarray, found))


def make(scale: Settings, typed: str) -> None:
    """Runs the cells, observes networks, writes figure_step_rules.md, .csv and .png."""
    scale = resolve(scale, NAME)
    if scale.smoke:
        scale = dataclasses.replace(scale, ipc=2, networks=2)
    steps = {"outer_steps": 3} if scale.smoke else {}
    rules = get_args(StepRuleName)
    cells = [Cell(rule, "", config(scale, step_rule=rule, **steps)) for rule in rules]
    found = run(cells, scale)
    observed = {cell.row: observe(cell, scale) for cell in cells}
    _write(scale, found, observed, typed)


def _write(
    scale: Settings, found: Sequence[Found], observed: dict[str, Observed], typed: str
) -> None:
    scale.folder.mkdir(parents=True, exist_ok=True)
    path = scale.folder / NAME
    with files.atomic(path.with_suffix(".csv")) as draft:
        _write_csv(draft, observed)
    with files.atomic(path.with_suffix(".png")) as draft:
        shown = {rule: (o.inner_epochs[:, :-1], o.loss) for rule, o in observed.items()}
        panels(draft, "outer step", ("inner epochs", "loss on test images"), shown)
    column_of = lambda one: "accuracy"
    tables = [accuracy_table("step rule", found, column_of)]
    tables += difference_tables("fixed", found, column_of)
    shown_tables = "\n\n".join(t.markdown for t in tables)
    costs = "\n".join(
        f"- {one.row}: {one.inner_epochs:.1f} inner epochs in an iteration, {one.seconds:.0f} s"
        for one in found
    )
    cells = f"ipc {scale.ipc}, {scale.iterations} iterations"
    cells += f", {scale.batch_real} real images of each class"
    under = caption(scale, found, cells)
    under += f" The figure is of {scale.networks} networks on the first set."
    body = f"{shown_tables}\n\n{costs}"
    write_page(path.with_suffix(".md"), "Step rules", body, under, typed)
    print(f"{shown_tables}\n{path}.md, .csv, .png")


def _write_csv(path: Path, observed: dict[str, Observed]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["rule", "network", "outer_step", "inner_epochs", "loss"])
        for rule, values in observed.items():
            for (network, step), epochs in np.ndenumerate(values.inner_epochs):
                loss = f"{values.loss[network, step]:.5f}"
                writer.writerow([rule, network, step, int(epochs), loss])


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    return table.main(NAME, __doc__, make, arguments, Settings)


if __name__ == "__main__":
    sys.exit(main())
