"""Sweeps: the cells of a table, each condensed and evaluated once, whenever it is asked for.

A cell is a run folder `OUT/cells/NAME` like any other; one that is finished is not run again, one
that was interrupted goes on from its last checkpoint.  What a table shows is read back from those
folders.
"""

import csv
import dataclasses
import functools
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.figures import bars
from gm_jax.cli.condense import Condense, condense
from gm_jax.cli.evaluate import Evaluate, evaluate
from gm_jax.condensed import DivergedError
from gm_jax.config import Config, check, check_with, with_network
from gm_jax.data.images import Dataset
from gm_jax.data.loading import load
from gm_jax.evaluation.protocol import Summary, paper_protocol, summarise
from gm_jax.storage import run_folder


@dataclasses.dataclass(frozen=True)
class Scale:
    """How much of everything; the defaults are the paper's."""

    dataset: str = "mnist5k"
    """Data set, as `gm-jax condense` knows it."""
    ipc: int = 1
    """Synthetic images a class."""
    iterations: int = 1000
    """Iterations of a condensation."""
    batch_real: int = 256
    """Real images a class at each outer step; of mixed classes at most four times as many."""
    seeds: int = 5
    """Sets of a cell."""
    count: int = 20
    """Fresh networks a set."""
    epochs: int | None = None
    """Epochs of evaluation. Default: the paper's, 1000 with augmentation on MNIST, else 300."""
    out: Path | None = None
    """Folder for the run folders of all cells, and for the table and the plot. Default: results/
    and the script's name, -smoke after it for a smoke test."""
    smoke: bool = False
    """See that it works, in a minute or two: sets --dataset digits --iterations 2 --batch-real 8
    --seeds 1 --count 1 --epochs 2 and small networks. Its numbers mean nothing."""


SMALL = {"width": 4, "depth": 1, "outer_steps": 1}
"""What `--smoke` adds to a cell's settings; depth and width for ConvNet alone."""


class Cell(NamedTuple):
    """One number of a table.

    Attributes:
        row: of the table.
        column: of the table.
        config: what is condensed.
        networks: what is trained on it, as `gm-jax evaluate --networks` takes them; empty is the
            network that it was condensed with.
    """

    row: str
    column: str
    config: Config
    networks: tuple[str, ...] = ()


class Found(NamedTuple):
    """What a cell came to, on one network.

    Attributes:
        row, column: its place in the table.
        network: what was trained.
        accuracies: 0..1, `[sets, networks]`; of the sets that did not diverge.
        config: what was condensed; `None` if nothing was.
        epochs: of evaluation.
        seconds: of all iterations of the condensation, compiling included.
        inner_epochs: taken, mean over iterations and sets of the sum over outer steps.
    """

    row: str
    column: str
    network: str
    accuracies: np.ndarray
    config: Config | None
    epochs: int
    seconds: float
    inner_epochs: float

    @property
    def summary(self) -> Summary:
        """Mean and spread, in percent; NaN if every set diverged."""
        none = Summary(np.nan, np.nan, np.nan)
        return summarise(self.accuracies) if self.accuracies.size else none


def settled(scale: Scale, name: str) -> Scale:
    """The scale as it is meant, `--smoke` having set what it sets; `name` is the script's."""
    out = scale.out or Path("results") / (f"{name}-smoke" if scale.smoke else name)
    scale = dataclasses.replace(scale, out=out)
    if not scale.smoke:
        return scale
    return dataclasses.replace(
        scale, dataset="digits", iterations=2, batch_real=8, seeds=1, count=1, epochs=2
    )


def config(scale: Scale, **changes: Any) -> Config:
    """A cell's settings: the scale's, and what the cell changes."""
    scheme = changes.get("scheme", Config.scheme)
    own = {"dataset": scale.dataset, "ipc": scale.ipc, "iterations": scale.iterations}
    own |= {"seeds": scale.seeds}
    if scheme != "inter":
        own["batch_real"] = scale.batch_real
    if scheme in ("inter", "interleaved"):
        own["batch_mixed"] = min(Config.batch_mixed, 4 * scale.batch_real)
    if scale.smoke:
        convnet = changes.get("network", "convnet") == "convnet"
        own |= SMALL if convnet else {"outer_steps": SMALL["outer_steps"]}
    return Config(**own | changes)


# --- running --------------------------------------------------------------------------------------


def run(cells: Sequence[Cell], scale: Scale) -> list[Found]:
    """Every cell, in order; those that are finished are read.

    Raises:
        UserError: a setting or network of any cell is not allowed (before the first one runs), or
            a cell's folder holds a run of other settings.
    """
    for cell in cells:
        _check(cell)
    found = []
    for number, cell in enumerate(cells, start=1):
        name = f"{cell.row}, {cell.column}" if cell.column else cell.row
        print(f"[{number}/{len(cells)}] {name}", file=sys.stderr, flush=True)
        folder = _folder(scale.out, cell)
        _condense(folder, cell.config)
        _evaluate(folder, cell, scale)
        found += read(folder, cell)
    return found


def condensed(cell: Cell, out: Path) -> Path:
    """The cell's run folder, condensed but not evaluated."""
    _check(cell)
    folder = _folder(out, cell)
    _condense(folder, cell.config)
    return folder


def _check(cell: Cell) -> None:
    check(cell.config)
    dataset = loaded(cell.config.dataset)
    for named in cell.networks or (cell.config.network,):
        variant = with_network(cell.config, named) if cell.networks else cell.config
        check_with(variant, dataset)


@functools.cache
def loaded(name: str) -> Dataset:
    """A data set, once; what is downloaded is said on standard error."""
    return load(name, log=functools.partial(print, file=sys.stderr, flush=True))


def _folder(out: Path, cell: Cell) -> Path:
    name = f"{cell.row} {cell.column}".strip()
    return out / "cells" / "".join(c if c.isalnum() or c in "+-." else "_" for c in name)


def _condense(folder: Path, config: Config) -> None:
    """Condenses a cell, or what is left of it; sets that diverge are said, and left."""
    try:
        condense(Condense(config, folder, resume=(folder / "config.json").exists()))
    except DivergedError as error:
        print(error, file=sys.stderr, flush=True)
    jax.clear_caches()  # each cell has programs of its own


def _evaluate(folder: Path, cell: Cell, scale: Scale) -> None:
    path = folder / "evaluation.json"
    if not run_folder.read_synthetic(folder).whole:
        return
    if path.exists():
        held = json.loads(path.read_text())
        networks = cell.networks or (cell.config.network,)
        wanted = scale.epochs or paper_protocol(loaded(cell.config.dataset)).epochs
        ran = {"count": scale.count, "seed": Evaluate.seed}
        whole = set(networks) <= set(held) and ran.items() <= held["ran"].items()
        if whole and all(held[n]["protocol"]["epochs"] == wanted for n in networks):
            return
    sizes = {"count": scale.count, "epochs": scale.epochs}
    evaluate(Evaluate(folder, networks=cell.networks, **sizes, skip_random_real=True))
    jax.clear_caches()


def read(folder: Path, cell: Cell) -> list[Found]:
    """What a finished cell came to, a network each."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    epochs = float(np.mean([sum(line["inner_epochs"]) for line in lines])) if lines else 0.0
    seconds = lines[-1]["seconds"] if lines else 0.0
    networks = cell.networks or (cell.config.network,)
    if not run_folder.read_synthetic(folder).whole:
        none = np.empty((0, 0))
        return [Found(*cell[:2], name, none, cell.config, 0, seconds, epochs) for name in networks]
    results = json.loads((folder / "evaluation.json").read_text())
    return [
        Found(
            cell.row,
            cell.column,
            network,
            np.array(results[network]["condensed"]["accuracies"]),
            cell.config,
            results[network]["protocol"]["epochs"],
            seconds,
            epochs,
        )
        for network in networks
    ]


# --- showing --------------------------------------------------------------------------------------


def shown(found: Found) -> str:
    """`91.2 ± 0.7 (5)`: mean, standard deviation over all networks, sets that did not diverge."""
    if not found.accuracies.size:
        return "diverged"
    summary = found.summary
    return f"{summary.mean:.1f} ± {summary.std:.1f} ({len(found.accuracies)})"


def markdown(
    corner: str,
    found: Sequence[Found],
    column_of: Callable[[Found], str],
    beside: dict[str, dict[str, str]],
) -> str:
    """A Markdown table of accuracies, in percent.

    Args:
        corner: what the rows are.
        found: the cells.
        column_of: a cell's column.
        beside: published numbers, `{row: {column: number}}`, in rows of their own.
    """
    columns = list(dict.fromkeys(map(column_of, found)))
    columns += [c for row in beside.values() for c in row if c not in columns]
    rows: dict[str, dict[str, str]] = {}
    for one in found:
        rows.setdefault(one.row, {})[column_of(one)] = shown(one)
    lines = [[corner, *columns], ["---"] * (len(columns) + 1)]
    for row, numbers in (rows | beside).items():
        lines.append([row, *(numbers.get(column, "") for column in columns)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write_csv(path: Path, found: Sequence[Found]) -> None:
    """A line a cell and network: every number that the table rounds, and the settings."""
    head = ["row", "column", "network", "mean", "std", "std_sets", "sets", "networks", "epochs"]
    head += ["seconds", "inner_epochs_taken"]
    settings = [field.name for field in dataclasses.fields(Config)]
    with run_folder.atomic(path) as draft, draft.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(head + settings)
        for one in found:
            sets, networks = one.accuracies.shape
            numbers = [*(f"{n:.3f}" for n in one.summary), sets, networks, one.epochs]
            numbers += [f"{one.seconds:.1f}", f"{one.inner_epochs:.2f}"]
            place = [one.row, one.column, one.network]
            values = [getattr(one.config, name, "") for name in settings]
            writer.writerow(place + numbers + values)


def save(
    name: str, title: str, table: str, found: Sequence[Found], scale: Scale, command: str
) -> None:
    """NAME.md, NAME.csv and NAME.png in the sweep's folder.

    Args:
        name: of the files.
        title: the page's first line, and the plot's.
        table: Markdown.
        found: the cells.
        scale: how much of everything.
        command: what made it.
    """
    scale.out.mkdir(parents=True, exist_ok=True)
    write_csv(scale.out / f"{name}.csv", found)
    with run_folder.atomic(scale.out / f"{name}.png") as draft:
        labels = [" ".join(dict.fromkeys((f.row, f.column, f.network))).strip() for f in found]
        means, spreads = ([getattr(f.summary, part) for f in found] for part in ("mean", "std"))
        bars(draft, title, labels, means, spreads)
    page = f"# {title}\n\n{table}\n\n{_caption(scale, found)}\n\n    {command}\n"
    with run_folder.atomic(scale.out / f"{name}.md") as draft:
        draft.write_text(page)
    print(table)
    print(f"{scale.out / name}.md, .csv, .png")


def _caption(scale: Scale, found: Sequence[Found]) -> str:
    epochs = sorted({one.epochs for one in found})
    made = f"{scale.iterations} iterations, {scale.batch_real} real images a class"
    tested = f"{scale.count} networks a set, {'/'.join(map(str, epochs))} epochs"
    meant = "Test accuracy in percent: mean ± standard deviation over all networks (sets)."
    smoke = " A smoke test: the numbers mean nothing." if scale.smoke else ""
    sets = ", ".join(dict.fromkeys(one.config.dataset for one in found if one.config))
    return f"{meant} {sets}, {made}; {tested}.{smoke}"
