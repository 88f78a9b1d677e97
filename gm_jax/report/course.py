"""How a run's iterations went: plots of the loss and of the inner epochs, and some numbers."""

from typing import Any, NamedTuple

import numpy as np

from gm_jax.condensed import Condensed
from gm_jax.config import Config, list_sets, several_values, swept_names
from gm_jax.errors import UserError
from gm_jax.report.pictures import Picture, lines

MOST_ROWS = 12
"""Iterations that stand in a table."""


class Course(NamedTuple):
    """How the iterations went: plots, and some of their numbers as a table."""

    plots: list[Picture]
    head: list[str]
    rows: list[list[str]]


def course(condensed: Condensed, metrics: list[dict[str, Any]]) -> Course:
    """Plots over iterations: the loss, its two parts, and the inner epochs where there are any.

    Raises:
        UserError: the metrics are those of another run.
    """
    parts = _by_set(condensed.config, metrics)
    known = ~np.isnan(parts["loss"]).all(0)  # in the others, all sets have diverged
    x, parts = 1 + np.flatnonzero(known), {name: values[:, known] for name, values in parts.items()}
    if not len(x):
        return Course([], [], [])
    means = {name: np.nanmean(values, 0) for name, values in parts.items()}
    return Course(_plots(x, parts, means), *_numbers(x, means))


def _by_set(config: Config, metrics: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """What was logged, by name: `[sets, iterations]`, NaN where nothing was."""
    swept = swept_names(config)
    sets = {
        (of_set.seed, *several_values(config, of_set.swept).values()): number
        for number, of_set in enumerate(list_sets(config))
    }
    names = ("loss", "intra", "inter", "epochs")
    parts = {name: np.full((len(sets), config.iterations), np.nan) for name in names}
    try:
        for row in metrics:
            at = sets[row["seed"], *(row[name] for name in swept)], row["iteration"]
            for name in names[:-1]:
                parts[name][at] = row[name]
            parts["epochs"][at] = sum(row["inner_epochs"])
    except (KeyError, IndexError, TypeError) as error:
        raise UserError("metrics.jsonl is not that of this run") from error
    return parts


def _plots(
    x: np.ndarray, parts: dict[str, np.ndarray], means: dict[str, np.ndarray]
) -> list[Picture]:
    losses = {"loss": parts["loss"], "within classes": parts["intra"]}
    losses["across classes"] = parts["inter"]
    ends = f"{means['loss'][0]:.4g} after iteration {x[0]}, {means['loss'][-1]:.4g} after {x[-1]}"
    found = [lines(x, losses, ("iteration", "matching loss"), f"The matching loss: {ends}.")]
    if np.nansum(parts["epochs"]):
        mean = f"{means['epochs'].mean():.1f} in an iteration, on average"
        series = {"inner epochs": parts["epochs"]}
        found.append(lines(x, series, ("iteration", "inner epochs"), f"Inner epochs: {mean}."))
    return found


def _numbers(x: np.ndarray, means: dict[str, np.ndarray]) -> tuple[list[str], list[list[str]]]:
    """Head and rows of a table: some iterations, the first and the last among them."""
    head = ["iteration", "loss", "within classes", "across classes", "inner epochs"]
    at = np.unique(np.linspace(0, len(x) - 1, MOST_ROWS).round().astype(int))
    names = ("loss", "intra", "inter")
    rows = [
        [str(x[i]), *(f"{means[name][i]:.4g}" for name in names), f"{means['epochs'][i]:.1f}"]
        for i in at
    ]
    return head, rows
