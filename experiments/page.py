"""What a table of cells is shown as: a Markdown page, a CSV file, a plot and an HTML page."""

import csv
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.figures import bars
from experiments.sweep import Cell, Found, Scale, cell_folder
from gm_jax.config import OF_CONVNET, Config
from gm_jax.report.page import render
from gm_jax.report.pictures import Picture, strip
from gm_jax.storage import files, reading, run_folder, snapshots


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
        texts = [[text.replace("|", r"\|") for text in row] for row in (self.head, *self.rows)]
        lines = [texts[0], ["---"] * len(self.head), *texts[1:]]
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
    diverged, or the sets are of other seeds or images, or were evaluated by another network or in
    another way, there are no pairs.
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
    networks = [getattr(config, name) for name in OF_CONVNET]
    return *sets, found.network, *networks, found.epochs, found.tested


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
    """A line for each cell and network: every number that the table rounds, and the settings.

    `set_means` are the means over the networks of each set, of which differences in pairs are made.
    """
    head = ["row", "column", "trained_network", "variant", "mean", "std", "std_sets", "sets"]
    head += ["networks", "epochs", "set_means", "seconds", "inner_epochs_taken"]
    settings = [field.name for field in dataclasses.fields(Config)]
    with files.atomic(path) as draft, draft.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(head + settings)
        for one in found:
            sets, networks = one.accuracies.shape
            place = [one.row, one.column, one.network, one.variant or ""]
            numbers = [*(f"{n:.3f}" for n in one.summary), sets, networks, one.epochs]
            numbers += [" ".join(f"{100 * of_set.mean():.3f}" for of_set in one.accuracies)]
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
        labels = [_label(one) for one in found]
        means, spreads = ([getattr(f.summary, part) for f in found] for part in ("mean", "std"))
        bars(draft, page.title, labels, means, spreads)
    under, shown_tables = caption(scale, found, page.cells), "\n\n".join(t.markdown for t in tables)
    write_page(path.with_suffix(".md"), page.title, shown_tables, under, page.command)
    values = {"title": page.title, "tables": tables, "caption": under, "command": page.command}
    with files.atomic(path.with_suffix(".html")) as draft:
        page_text = render("table.html", cells=_pictures(found, scale), **values)
        draft.write_text(page_text, encoding="utf-8", errors="backslashreplace")
    print(f"{shown_tables}\n{path}.md, .csv, .png, .html")


def _label(found: Found) -> str:
    """Row, column and network, each once; some tables have no columns."""
    return " ".join(filter(None, dict.fromkeys((found.row, found.column, found.network))))


def _pictures(found: Sequence[Found], scale: Scale) -> list[tuple[str, Picture]]:
    """Of each cell whose first set did not diverge, the first image of each class, as learned."""
    cells = [Cell(one.row, one.column, one.config) for one in found if one.config is not None]
    pictures = []
    for name, folder in {cell.name: cell_folder(cell, scale) for cell in cells}.items():
        if run_folder.finished(folder):
            condensed = reading.load_condensed(folder)
            if 0 in condensed.finished:
                images = snapshots.first_of_each(condensed)
                pictures.append((name, strip(images, f"{name}: an image of each class")))
    return pictures


def write_page(path: Path, title: str, body: str, caption: str, command: str) -> None:
    """A Markdown page: what was found, how it came about, and the command that made it."""
    with files.atomic(path) as draft:
        text = f"# {title}\n\n{body}\n\n{caption}\n\n    {command}\n"
        draft.write_text(text, encoding="utf-8")


def caption(scale: Scale, found: Sequence[Found], cells: str | None = None) -> str:
    """What the numbers of a table are.

    Args:
        scale: of every cell.
        found: the cells.
        cells: how they were condensed, where the scale does not say it.
    """
    epochs = sorted({one.epochs for one in found if one.epochs})
    if cells is None:
        cells = f"{scale.iterations} iterations, {scale.batch_real} real images of each class"
    tested = f"networks for each set: {scale.count}, {'/'.join(map(str, epochs))} epochs"
    format = "Test accuracy in percent: mean ± standard deviation over all networks (sets)."
    smoke = " A smoke test: the numbers mean nothing." if scale.smoke else ""
    sets = ", ".join(dict.fromkeys(one.config.dataset for one in found if one.config))
    return f"{format} {sets}, {cells}; {tested}.{smoke}"
