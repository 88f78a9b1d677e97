"""Plots of results."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gm_jax.errors import require
from gm_jax.storage.pictures import as_text


def bars(
    path: Path, title: str, labels: Sequence[str], means: Sequence[float], spreads: Sequence[float]
) -> None:
    """A bar for each label, accuracies in percent, with standard deviations."""
    figure = _figure(6, 0.6 + 0.3 * len(labels))
    axes = figure.subplots()
    axes.barh(range(len(labels)), means, xerr=spreads, color="0.7", capsize=3)
    axes.set_yticks(range(len(labels)), [as_text(label) for label in labels])
    axes.invert_yaxis()
    low, high = (np.add(means, sign * np.array(spreads)) for sign in (-1, 1))
    axes.set_xlim(max(0, low.min() - 5), min(100, high.max() + 2))
    axes.set_xlabel("test accuracy, %")
    axes.set_title(title, fontsize="medium")
    figure.savefig(path, dpi=150, format="png")


def panels(
    path: Path, x_label: str, y_labels: Sequence[str], series: Mapping[str, Sequence[np.ndarray]]
) -> None:
    """Panels side by side, one for each y label: means over networks, with standard deviations.

    Args:
        path: PNG to write.
        x_label: of every panel.
        y_labels: of each panel.
        series: by name, for each panel the values `[networks, x]`.
    """
    figure = _figure(4 * len(y_labels), 3)
    for number, (axes, y_label) in enumerate(zip(figure.subplots(1, len(y_labels)), y_labels)):
        for name, parts in series.items():
            values = parts[number]
            x, mean, spread = np.arange(values.shape[1]), values.mean(0), values.std(0)
            axes.plot(x, mean, label=as_text(name), marker="." if len(x) <= 20 else None)
            axes.fill_between(x, mean - spread, mean + spread, alpha=0.2)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
    axes.legend()
    figure.savefig(path, dpi=150, format="png")


def lines(
    path: Path,
    x_label: str,
    y_label: str,
    series: Mapping[str, Sequence[tuple[float, float, float]]],
) -> None:
    """A line for each name through its points `(x, mean, standard deviation)`."""
    figure = _figure(6, 4)
    axes = figure.subplots()
    for name, points in series.items():
        x, mean, spread = zip(*sorted(points))
        axes.errorbar(x, mean, spread, label=as_text(name), marker=".", capsize=3)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.legend()
    figure.savefig(path, dpi=150, format="png")


def log_lines(
    path: Path,
    panels: Sequence[tuple[str, str, Mapping[str, Sequence[tuple[float, float]]]]],
) -> None:
    """Panels side by side on logarithmic axes: `(x label, y label, points (x, y) by name)` each."""
    figure = _figure(4.5 * len(panels), 3.5)
    places = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (x_label, y_label, series) in zip(places, panels):
        for name, points in series.items():
            axes.loglog(*zip(*points), label=name, marker=".")
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.legend()
    figure.savefig(path, dpi=150, format="png")


def _figure(width: float, height: float) -> Any:
    """An empty figure of a size in inches."""
    figure: Any = require("matplotlib.figure", "pictures")
    return figure.Figure(figsize=(width, height), layout="constrained")
