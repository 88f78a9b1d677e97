"""Sweeps: the cells of a table, each condensed and evaluated once, however often it is needed.

A cell is a run folder `OUT/cells/NAME` like any other.  A finished cell is not run again, and an
interrupted one is resumed from its last checkpoint.  All numbers of a table are read back from
these folders.
"""

import csv
import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

import jax
import numpy as np

from experiments.figures import bars
from gm_jax.build import check_fits, check_variant
from gm_jax.checks import MOST, Count, between
from gm_jax.cli.commands import Condense, Evaluate
from gm_jax.cli.condense import condense
from gm_jax.cli.evaluate import evaluate
from gm_jax.cli.terminal import say
from gm_jax.condensed import DivergedError
from gm_jax.config import Config, Evaluation, check, list_sets, several_values, with_network
from gm_jax.data.images import Dataset
from gm_jax.data.loading import load
from gm_jax.errors import UserError
from gm_jax.evaluation.protocol import Summary, paper_protocol, summarise
from gm_jax.recipes import RecipeName
from gm_jax.report.page import render
from gm_jax.report.pictures import Picture, strip
from gm_jax.storage import files, run_folder, snapshots
from gm_jax.variants import load_variant


@dataclasses.dataclass(frozen=True)
class Scale:
    """The size of every condensation and evaluation; the defaults are the paper's."""

    dataset: str = "mnist5k"
    """Data set, as `gm-jax condense` knows it."""
    ipc: Count = 1
    """Synthetic images of each class."""
    iterations: Count = 1000
    """Iterations of a condensation."""
    batch_real: Count = 256
    """Real images of each class at each outer step; of mixed classes at most four times as many."""
    seeds: Count = 5
    """Sets of each cell."""
    count: Count = 20
    """Fresh networks for each set."""
    epochs: Count | None = None
    """Epochs of evaluation. Default: the paper's, 1000 with augmentation on MNIST, else 300."""
    out: Path | None = None
    """Folder for the run folders of all cells, the table and the plot. Default: results/ and the
    script's name, followed by -smoke for a smoke test."""
    list_cells: bool = False
    """Print the table's cells, a number and a name on each line, and do nothing else."""
    cell: Annotated[int, between(0, MOST)] | None = None
    """Condense and evaluate this one alone, for one job of many: all of them share --out. Once they
    are done, the same command without --cell makes the table."""
    smoke: bool = False
    """Check that the script runs, in a minute or two: sets --dataset digits --iterations 2
    --batch-real 8 --seeds 1 --count 1 --epochs 2 and small networks. The numbers mean nothing."""

    @property
    def folder(self) -> Path:
        """`out`, once `resolve` has set it."""
        assert self.out is not None
        return self.out


SMALL = {"width": 4, "depth": 1, "outer_steps": 1}
"""What `--smoke` adds to a cell's settings; width and depth for ConvNet alone."""


class Cell(NamedTuple):
    """One number of a table.

    Attributes:
        row: of the table.
        column: of the table.
        config: what is condensed.
        networks: what is trained on it, as in `gm-jax evaluate --networks`; empty is the network
            that it was condensed with.
        variant: a change of the method, `module:function`; see `gm_jax.variants`.
        recipe: whose settings these are, for the record.
    """

    row: str
    column: str
    config: Config
    networks: tuple[str, ...] = ()
    variant: str | None = None
    recipe: RecipeName | None = None

    @property
    def name(self) -> str:
        """Row and column."""
        return f"{self.row}, {self.column}" if self.column else self.row


class Found(NamedTuple):
    """The result of a cell, for one network.

    Attributes:
        row, column: its place in the table.
        network: what was trained.
        accuracies: 0..1, `[sets, networks]`, of the sets that did not diverge.
        config: what was condensed; `None` if nothing was.
        epochs: of evaluation; 0 if all sets diverged.
        seconds: of all iterations of the condensation, compilation included.
        inner_epochs: in an iteration, summed over outer steps; mean over iterations and sets.
        variant: the change of the method, `module:function`.
    """

    row: str
    column: str
    network: str
    accuracies: np.ndarray
    config: Config | None
    epochs: int
    seconds: float
    inner_epochs: float
    variant: str | None = None

    @property
    def summary(self) -> Summary:
        """Mean and spread, in percent; NaN if every set diverged."""
        none = Summary(np.nan, np.nan, np.nan)
        return summarise(self.accuracies) if self.accuracies.size else none


# --- settings -------------------------------------------------------------------------------------


AnyScale = TypeVar("AnyScale", bound=Scale)


def resolve(scale: AnyScale, name: str) -> AnyScale:
    """The scale with the default of `out` filled in, and with all that `--smoke` sets.

    Args:
        scale: as parsed.
        name: of the script.
    """
    out = scale.out or Path("results") / (f"{name}-smoke" if scale.smoke else name)
    scale = dataclasses.replace(scale, out=out)
    if not scale.smoke:
        return scale
    return dataclasses.replace(
        scale, dataset="digits", iterations=2, batch_real=8, seeds=1, count=1, epochs=2
    )


def config(scale: Scale, **changes: Any) -> Config:
    """A cell's settings: the scale's, with the changes of the cell."""
    scheme = changes.get("scheme", Config.scheme)
    own: dict[str, Any] = {"dataset": scale.dataset, "ipc": scale.ipc}
    own |= {"iterations": scale.iterations, "seeds": scale.seeds}
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
    """Every cell, in order; finished ones are only read.

    Raises:
        UserError: a setting, network or variant of any cell is not allowed (raised before the
            first one runs), or a cell's folder holds a run of other settings, or is in use.
        SystemExit: one cell alone was asked for, or their list; with status 0.
    """
    for cell in cells:
        check_cell(cell)
    fan_out(cells, scale, lambda cell: run_cell(cell, scale))
    found = []
    for number, cell in enumerate(cells, start=1):
        say(f"[{number}/{len(cells)}] {cell.name}")
        found += run_cell(cell, scale)
    return found


def fan_out(cells: Sequence[Cell], scale: Scale, work: Callable[[Cell], Any]) -> None:
    """Lists the cells, or does the work of one, and leaves the program, if that is asked for."""
    if scale.list_cells:
        for number, cell in enumerate(cells):
            print(f"{number} {cell.name}")
        raise SystemExit(0)
    if scale.cell is not None:
        if scale.cell >= len(cells):
            raise UserError(f"--cell {scale.cell}: must be 0 to {len(cells) - 1}")
        work(cells[scale.cell])
        raise SystemExit(0)


def run_cell(cell: Cell, scale: Scale) -> list[Found]:
    """The cell's results; condensed and evaluated as far as it is not."""
    folder = condense_cell(cell, scale)
    _evaluate(folder, cell, scale)
    return read_cell(folder, cell)


def condense_cell(cell: Cell, scale: Scale) -> Path:
    """The cell's run folder, condensed or resumed if it is not finished; it is not evaluated.

    Sets that diverge are reported and left as they are.
    """
    check_cell(cell)
    folder = cell_folder(cell, scale)
    begun = (folder / "config.json").exists()
    try:
        condense(Condense(cell.config, folder, cell.recipe, cell.variant, resume=begun))
    except DivergedError as error:
        say(str(error))
    jax.clear_caches()  # each cell has programs of its own
    return folder


def cell_folder(cell: Cell, scale: Scale) -> Path:
    """The cell's run folder."""
    name = f"{cell.row} {cell.column}".strip()
    return scale.folder / "cells" / "".join(c if c.isalnum() or c in "+-." else "_" for c in name)


@functools.cache
def check_cell(cell: Cell) -> None:
    """Raises `UserError` for the first thing that is not allowed."""
    check(cell.config)
    dataset = load_once(cell.config.dataset)
    for named in cell.networks or (None,):
        check_fits(with_network(cell.config, named) if named else cell.config, dataset)
    if cell.variant is not None:
        check_variant(cell.config, dataset, load_variant(cell.variant))


@functools.cache
def load_once(name: str) -> Dataset:
    """A data set by name, kept in memory."""
    return load(name)


def _evaluate(folder: Path, cell: Cell, scale: Scale) -> None:
    """Evaluates a cell unless it has been evaluated in the same way."""
    if not run_folder.load_condensed(folder).finished or _is_evaluated(folder, cell, scale):
        return
    settings = Evaluation(
        networks=cell.networks, count=scale.count, epochs=scale.epochs, skip_random_real=True
    )
    evaluate(Evaluate(folder, settings))
    jax.clear_caches()


def _is_evaluated(folder: Path, cell: Cell, scale: Scale) -> bool:
    if not (folder / "evaluation.json").exists():
        return False
    held = files.read_json(folder / "evaluation.json")
    networks = cell.networks or (cell.config.network,)
    wanted = scale.epochs or paper_protocol(load_once(cell.config.dataset)).epochs
    ran = {"protocol": Evaluation.protocol, "count": scale.count, "seed": Evaluation.seed}
    complete = set(networks) <= set(held) and ran.items() <= held["ran"].items()
    return complete and all(held[name]["protocol"]["epochs"] == wanted for name in networks)


# --- reading --------------------------------------------------------------------------------------


def read_cell(folder: Path, cell: Cell) -> list[Found]:
    """The results of a finished cell, one for each network."""
    found = _read(folder, cell.networks or (cell.config.network,))
    return [one._replace(row=cell.row, column=cell.column) for one in found]


def read_run(folder: Path) -> list[Found]:
    """The results of any finished, evaluated run: one for each network and swept value.

    A row is named by the folder, the values of swept settings, and the network where it is not the
    one that the images were condensed with.

    Raises:
        UserError: it is no such run.
    """
    condensed = run_folder.load_condensed(folder)
    own, results = condensed.config.network, run_folder.read_results(folder)
    if not condensed.finished:
        return _read(folder, (own,))
    if not results:
        raise UserError(f"{folder} is not evaluated: run gm-jax evaluate {folder}")
    try:
        found = _read(folder, [name for name in results if name != "ran"])
    except (KeyError, TypeError) as error:
        raise UserError(f"{folder}: metrics.jsonl or evaluation.json is another run's") from error
    return [
        one if one.network == own else one._replace(row=f"{one.row}, {one.network}")
        for one in found
    ]


def _read(folder: Path, networks: Sequence[str]) -> list[Found]:
    condensed = run_folder.load_condensed(folder)
    results = run_folder.read_results(folder) if condensed.finished else {}
    metrics = run_folder.read_metrics(folder)
    by_values: dict[str, list[dict[str, Any]]] = {
        _values(condensed.config, of_set.swept._asdict()): []
        for of_set in list_sets(condensed.config)
    }
    for line in metrics:
        by_values[_values(condensed.config, line)].append(line)
    name = None if condensed.variant is None else condensed.variant.name
    found = []
    for network, (values, lines) in itertools.product(networks, by_values.items()):
        result = results.get(network, {})
        accuracies = np.array(result.get(f"condensed{values}", {}).get("accuracies", []))
        found.append(
            Found(
                row=f"{folder}{values}",
                column="",
                network=network,
                accuracies=accuracies if accuracies.size else np.empty((0, 0)),
                config=condensed.config,
                epochs=result["protocol"]["epochs"] if result else 0,
                seconds=lines[-1]["seconds"] if lines else 0.0,
                inner_epochs=float(np.mean([sum(line["inner_epochs"]) for line in lines] or [0])),
                variant=name,
            )
        )
    return found


def _values(config: Config, values: dict[str, Any]) -> str:
    """The values of swept settings, as evaluation.json has them after `condensed`."""
    several = several_values(config, list_sets(config)[0].swept)
    return "".join(f", {name} {values[name]:g}" for name in several)


# --- showing --------------------------------------------------------------------------------------


def shown(found: Found) -> str:
    """`91.2 ± 0.7 (5)`: mean, standard deviation over all networks, sets that did not diverge."""
    if not found.accuracies.size:
        return "diverged"
    summary = found.summary
    return f"{summary.mean:.1f} ± {summary.std:.1f} ({len(found.accuracies)})"


class Table(NamedTuple):
    """A table of texts.

    Attributes:
        head: of the columns, the first one what the rows are.
        rows: each as long as the head, its name first.
    """

    head: list[str]
    rows: list[list[str]]

    @property
    def markdown(self) -> str:
        """The same in Markdown."""
        lines = [self.head, ["---"] * len(self.head), *self.rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def accuracy_table(
    corner: str,
    found: Sequence[Found],
    column_of: Callable[[Found], str],
    published: dict[str, dict[str, str]] | None = None,
) -> Table:
    """Accuracies in percent, by row and column.

    Args:
        corner: what the rows are.
        found: the cells.
        column_of: a cell's column.
        published: `{row: {column: number}}`, shown in rows of their own where a column is here.
    """
    columns = list(dict.fromkeys(map(column_of, found)))
    rows: dict[str, dict[str, str]] = {}
    for one in found:
        rows.setdefault(one.row, {})[column_of(one)] = shown(one)
    rows |= {row: of for row, of in (published or {}).items() if set(of) & set(columns)}
    lines = [[row, *(of.get(column, "") for column in columns)] for row, of in rows.items()]
    return Table([corner, *columns], lines)


def difference(found: Found, base: Found) -> str:
    """`+0.4 ± 0.2 (5)`: mean over pairs of sets of one seed, and its standard error; in percent.

    A set's accuracy is the mean over its networks.  One pair has no standard error; where a set
    diverged, or the sets are of other seeds or images, or were evaluated by another network or for
    other epochs, there are no pairs.
    """
    if not _complete(found) or not _complete(base) or _comparable(found) != _comparable(base):
        return "no pairs"
    pairs = 100 * (found.accuracies.mean(1) - base.accuracies.mean(1))
    error = f" ± {pairs.std(ddof=1) / len(pairs) ** 0.5:.1f}" if len(pairs) > 1 else ""
    return f"{pairs.mean():+.1f}{error} ({len(pairs)})"


def _complete(found: Found) -> bool:
    """Whether no set diverged."""
    return found.config is not None and len(found.accuracies) == found.config.seeds


def _comparable(found: Found) -> tuple[Any, ...]:
    """What must be equal in pairs of sets: images, seeds, and how they were evaluated."""
    config = found.config
    assert config is not None
    sets = config.dataset, config.image_size, config.ipc, config.seed, config.seeds
    return *sets, found.network, found.epochs


def difference_tables(
    base: str, found: Sequence[Found], column_of: Callable[[Found], str]
) -> list[Table]:
    """Differences in pairs, by row and column: one table, or none without the base.

    Args:
        base: the row that the others are compared with, column by column.
        found: the cells.
        column_of: a cell's column.
    """
    bases = {column_of(one): one for one in found if one.row == base}
    columns = list(bases)
    rows: dict[str, dict[str, str]] = {}
    for one in found:
        if one.row != base and column_of(one) in bases:
            rows.setdefault(one.row, {})[column_of(one)] = difference(one, bases[column_of(one)])
    lines = [[row, *(of.get(column, "") for column in columns)] for row, of in rows.items()]
    return [Table([f"less {base}, in pairs ± standard error", *columns], lines)] if lines else []


def write_csv(path: Path, found: Sequence[Found]) -> None:
    """A line for each cell and network: every number that the table rounds, and the settings."""
    head = ["row", "column", "network", "variant", "mean", "std", "std_sets", "sets", "networks"]
    head += ["epochs", "seconds", "inner_epochs_taken"]
    settings = [field.name for field in dataclasses.fields(Config)]
    with files.atomic(path) as draft, draft.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(head + settings)
        for one in found:
            sets, networks = one.accuracies.shape
            place = [one.row, one.column, one.network, one.variant or ""]
            numbers = [*(f"{n:.3f}" for n in one.summary), sets, networks, one.epochs]
            numbers += [f"{one.seconds:.1f}", f"{one.inner_epochs:.2f}"]
            values = [getattr(one.config, name, "") for name in settings]
            writer.writerow(place + numbers + values)


class Page(NamedTuple):
    """The texts on the page of a table.

    Attributes:
        name: of the files.
        title: the page's first line, and the plot's.
        command: that made it.
        cells: how they were condensed, where the scale does not say it.
    """

    name: str
    title: str
    command: str
    cells: str | None = None


def save(page: Page, tables: Sequence[Table], found: Sequence[Found], scale: Scale) -> None:
    """NAME.md, .csv, .png and .html in the sweep's folder; prints the tables.

    Args:
        page: name, title and command.
        tables: that the page shows.
        found: the cells.
        scale: of every cell.
    """
    scale.folder.mkdir(parents=True, exist_ok=True)
    path = scale.folder / page.name
    write_csv(path.with_suffix(".csv"), found)
    with files.atomic(path.with_suffix(".png")) as draft:
        labels = [" ".join(dict.fromkeys((f.row, f.column, f.network))).strip() for f in found]
        means, spreads = ([getattr(f.summary, part) for f in found] for part in ("mean", "std"))
        bars(draft, page.title, labels, means, spreads)
    caption, shown_tables = _caption(page, scale, found), "\n\n".join(t.markdown for t in tables)
    with files.atomic(path.with_suffix(".md")) as draft:
        text = f"# {page.title}\n\n{shown_tables}\n\n{caption}\n\n    {page.command}\n"
        draft.write_text(text, encoding="utf-8")
    values = {"title": page.title, "tables": tables, "caption": caption, "command": page.command}
    with files.atomic(path.with_suffix(".html")) as draft:
        page_text = render("table.html", cells=_pictures(found, scale), **values)
        draft.write_text(page_text, encoding="utf-8", errors="backslashreplace")
    print(f"{shown_tables}\n{path}.md, .csv, .png, .html")


def _pictures(found: Sequence[Found], scale: Scale) -> list[tuple[str, Picture]]:
    """Of each cell whose first set did not diverge, the first image of each class, as learned."""
    cells = [Cell(one.row, one.column, one.config) for one in found if one.config is not None]
    pictures = []
    for name, folder in {cell.name: cell_folder(cell, scale) for cell in cells}.items():
        if run_folder.finished(folder):
            condensed = run_folder.load_condensed(folder)
            if 0 in condensed.finished:
                images = snapshots.first_of_each(condensed)
                pictures.append((name, strip(images, f"{name}: an image of each class")))
    return pictures


def _caption(page: Page, scale: Scale, found: Sequence[Found]) -> str:
    epochs = sorted({one.epochs for one in found if one.epochs})
    own = f"{scale.iterations} iterations, {scale.batch_real} real images of each class"
    cells = own if page.cells is None else page.cells
    tested = f"networks for each set: {scale.count}, {'/'.join(map(str, epochs))} epochs"
    format = "Test accuracy in percent: mean ± standard deviation over all networks (sets)."
    smoke = " A smoke test: the numbers mean nothing." if scale.smoke else ""
    sets = ", ".join(dict.fromkeys(one.config.dataset for one in found if one.config))
    return f"{format} {sets}, {cells}; {tested}.{smoke}"
