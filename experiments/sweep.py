"""Sweeps: the cells of a table, each condensed and evaluated once, however often it is needed.

A cell is a run folder `OUT/cells/NAME` like any other.  A finished cell is not run again, and an
interrupted one is resumed from its last checkpoint.  All numbers of a table are read back from
these folders.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from experiments.command import FailedError
from gm_jax.checks import MOST, Count, between
from gm_jax.cli.commands import Condense, Evaluate
from gm_jax.cli.condense import condense
from gm_jax.cli.evaluate import evaluate
from gm_jax.cli.terminal import say
from gm_jax.condensed import Condensed, DivergedError
from gm_jax.config import (
    Config,
    Evaluation,
    check,
    list_sets,
    several_values,
    swept_names,
    swept_text,
    with_network,
)
from gm_jax.data.images import Dataset
from gm_jax.data.loading import load
from gm_jax.errors import UserError
from gm_jax.evaluation.protocol import Summary, paper_protocol, summarise
from gm_jax.fit import check_fits
from gm_jax.recipes import RecipeName
from gm_jax.storage import provenance, reading
from gm_jax.variant_check import check_variant
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
    --batch-real 8 --seeds 1 --count 1 --epochs 2 and small networks, and what else a table has to
    the least. The numbers mean nothing."""

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
        tested: how the evaluation was, and on which images; `None` where there is none.
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
    tested: tuple[str, ...] | None = None

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


def first_images(cell: Cell, scale: Scale) -> jax.Array:
    """The images of a cell's first set by class, `[C, n, h, w, channel]`.

    Raises:
        FailedError: it diverged.
    """
    condensed = reading.load_condensed(cell_folder(cell, scale))
    if 0 not in condensed.finished:
        at = condensed.iterations[0]
        raise FailedError(f"{cell.name}: the first set diverged at iteration {at}")
    return jnp.asarray(condensed.rows(0))


def cell_folder(cell: Cell, scale: Scale) -> Path:
    """The cell's run folder."""
    return scale.folder / "cells" / file_name(f"{cell.row} {cell.column}".strip())


def file_name(text: str) -> str:
    """A name for a file: letters, digits and `+-.` stay, others become `_`."""
    return "".join(c if c.isalnum() or c in "+-." else "_" for c in text)


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
    if not reading.load_condensed(folder).finished or _is_evaluated(folder, cell, scale):
        return
    settings = Evaluation(
        networks=cell.networks, count=scale.count, epochs=scale.epochs, skip_random_real=True
    )
    evaluate(Evaluate(folder, settings))
    jax.clear_caches()


def _is_evaluated(folder: Path, cell: Cell, scale: Scale) -> bool:
    held, dataset = reading.read_results(folder), load_once(cell.config.dataset)
    networks = cell.networks or (cell.config.network,)
    if not set(networks) <= set(held):
        return False
    ran: dict[str, Any] = {"protocol": Evaluation.protocol, "count": scale.count}
    ran |= {"seed": Evaluation.seed, "data": provenance.data(dataset)}
    wanted = scale.epochs or paper_protocol(dataset).epochs
    epochs = {held[name]["protocol"]["epochs"] for name in networks}
    return ran.items() <= held["ran"].items() and epochs == {wanted}


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
    condensed, about = reading.load_condensed(folder), reading.read_about(folder)
    own, results = condensed.config.network, reading.read_results(folder)
    if not condensed.finished:
        return _read(folder, (own,))
    if not results:
        raise UserError(f"{folder} is not evaluated: run gm-jax evaluate {folder}")
    if _images(results["ran"].get("data", about["data"])) != _images(about["data"]):
        raise UserError(f"{folder} was evaluated on other data than its own: evaluate it again")
    found = _read(folder, [name for name in results if name != "ran"])
    return [
        one if one.network == own else one._replace(row=f"{one.row}, {one.network}")
        for one in found
    ]


def _read(folder: Path, networks: Sequence[str]) -> list[Found]:
    """A result for each network and swept value; `UserError` where the files do not belong."""
    condensed = reading.load_condensed(folder)
    results = reading.read_results(folder) if condensed.finished else {}
    metrics = reading.read_metrics(folder)
    try:
        return _results(folder, condensed, metrics, results, networks)
    except (KeyError, TypeError) as error:
        raise UserError(f"{folder}: metrics.jsonl or evaluation.json is another run's") from error


def _results(
    folder: Path,
    condensed: Condensed,
    metrics: list[dict[str, Any]],
    results: dict[str, Any],
    networks: Sequence[str],
) -> list[Found]:
    config = condensed.config
    of_sets = [swept_text(several_values(config, one.swept)) for one in list_sets(config)]
    lines: dict[str, list[dict[str, Any]]] = {values: [] for values in of_sets}
    for line in metrics:
        lines[swept_text({name: line[name] for name in swept_names(config)})].append(line)
    finished = {of_sets[number] for number in condensed.finished}
    found = []
    for network, (values, rows) in itertools.product(networks, lines.items()):
        held = results[network][f"condensed{values}"]["accuracies"] if values in finished else []
        found.append(
            Found(
                row=f"{folder}{values}",
                column="",
                network=network,
                accuracies=np.array(held) if held else np.empty((0, 0)),
                config=config,
                epochs=results[network]["protocol"]["epochs"] if results else 0,
                seconds=rows[-1]["seconds"] if rows else 0.0,
                inner_epochs=float(np.mean([sum(row["inner_epochs"]) for row in rows] or [0])),
                variant=None if condensed.variant is None else condensed.variant.name,
                tested=_tested(results["ran"]) if results else None,
            )
        )
    return found


def _tested(ran: dict[str, Any]) -> tuple[str, ...]:
    """How, with which seed, and on which images an evaluation was."""
    how = ran.get("protocol", "paper"), str(ran.get("seed", 0))
    return *how, *_images(ran.get("data", {}))


def _images(data: dict[str, str]) -> tuple[str, str]:
    """The digests of training and test images; gm_jax 0.1 did not note them."""
    return data.get("train", ""), data.get("test", "")
