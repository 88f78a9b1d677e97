"""The paper's tables and figures as scripts: each one's smoke test, and what a sweep promises."""

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments import (
    accelerator,
    bench,
    chunks,
    compile_time,
    figure_gradient_gap,
    figure_step_rules,
    sweep,
    table1_levels,
    table2_distances,
    table3_main,
    table4_cross_architecture,
)
from gm_jax.cli.main import main as cli
from gm_jax.config import Config
from gm_jax.core.distances import DISTANCES
from gm_jax.errors import UserError


@pytest.mark.parametrize(
    ("script", "name", "cells"),
    [
        (table1_levels, "table1_levels", 5),
        (table2_distances, "table2_distances", len(DISTANCES)),
        (table3_main, "table3_main", 4 + 5),
        (table4_cross_architecture, "table4_cross_architecture", 3),
        (figure_step_rules, "figure_step_rules", None),
        (figure_gradient_gap, "figure_gradient_gap", None),
    ],
)
def test_smoke(script, name, cells, tmp_path, capsys):
    assert script.main(["--smoke", "--out", str(tmp_path)]) == 0
    page = (tmp_path / f"{name}.md").read_text()
    assert f"    python -m experiments.{name} --smoke" in page
    table = [line for line in page.splitlines() if line.startswith("|")]
    assert table[0] in capsys.readouterr().out
    with (tmp_path / f"{name}.csv").open() as file:
        rows = list(csv.DictReader(file))
    if cells is not None:
        assert len(rows) == cells
        assert all(0 <= float(row["mean"]) <= 100 for row in rows)
    assert rows
    with Image.open(tmp_path / f"{name}.png") as picture:
        assert np.asarray(picture.convert("L")).std() > 0


def scale(tmp_path, **changes):
    return sweep.settled(sweep.Scale(out=tmp_path, smoke=True, **changes), "test")


def test_a_finished_cell_is_not_run_again_and_an_unfinished_one_is(tmp_path, capsys):
    small = scale(tmp_path)
    cells = [sweep.Cell(name, "", sweep.config(small, scheme=name)) for name in ("intra", "inter")]
    before = sweep.run(cells, small)
    (tmp_path / "cells" / "inter" / "synthetic.npz").unlink()  # as if it had been interrupted
    capsys.readouterr()
    times = {name: _written(tmp_path, name) for name in ("intra", "inter")}
    after = sweep.run(cells, small)
    assert _written(tmp_path, "intra") == times["intra"]
    assert _written(tmp_path, "inter") != times["inter"]
    assert capsys.readouterr().out.count("condensed digits") == 1
    for one, two in zip(before, after, strict=True):
        assert np.array_equal(one.accuracies, two.accuracies)


def _written(folder, cell):
    return (folder / "cells" / cell / "config.json").stat().st_mtime_ns


def test_a_folder_of_other_settings_is_refused_by_name(tmp_path, capsys):
    cells = [sweep.Cell("intra", "", sweep.config(scale(tmp_path), scheme="intra"))]
    sweep.run(cells, scale(tmp_path))
    assert table1_levels.main(["--smoke", "--ipc", "2", "--out", str(tmp_path)]) == 2
    assert "was begun with --ipc 1, not 2" in capsys.readouterr().err


def test_an_evaluation_of_other_epochs_is_not_taken_for_this_one(tmp_path):
    small = scale(tmp_path)
    cells = [sweep.Cell("intra", "", sweep.config(small, scheme="intra"))]
    for epochs in (2, 1):
        (found,) = sweep.run(cells, dataclasses.replace(small, epochs=epochs))
        assert found.epochs == epochs


def test_every_cell_is_checked_before_the_first_one_runs(tmp_path):
    small = scale(tmp_path)
    fits = sweep.Cell("a", "", sweep.config(small))
    with pytest.raises(UserError, match="vgg11"):
        sweep.run([fits, fits._replace(row="b", networks=("vgg11",))], small)
    assert not (tmp_path / "cells").exists()


def test_a_cell_is_the_paper_but_for_what_it_changes():
    """Batches of mixed classes are at most four times those of a class, 1024 to 256."""
    paper = sweep.Scale()
    assert sweep.config(paper, scheme="intra") == Config(ipc=1, scheme="intra", seeds=5)
    inter = sweep.config(sweep.Scale(batch_real=32), scheme="interleaved")
    assert (inter.batch_real, inter.batch_mixed) == (32, 128)


def test_the_table_rounds_what_the_csv_holds(tmp_path):
    """Accuracies 0.5 and 0.7 of one set: mean 60, population deviation 10."""
    found = sweep.Found(
        "a", "b", "convnet", np.array([[0.5, 0.7]]), Config(), 3, seconds=1.0, inner_epochs=2.0
    )
    assert sweep.shown(found) == "60.0 ± 10.0 (1)"
    table = sweep.markdown("rows", [found], lambda one: one.column, {"published": {"b": "61.2"}})
    assert table.splitlines()[2:] == ["| a | 60.0 ± 10.0 (1) |", "| published | 61.2 |"]
    sweep.write_csv(tmp_path / "a.csv", [found])
    with (tmp_path / "a.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert (row["mean"], row["std"], row["sets"], row["networks"]) == ("60.000", "10.000", "1", "2")
    assert row["scheme"] == "multi-level"


def test_a_wrong_setting_ends_in_one_line(tmp_path, capsys):
    for arguments, says in [
        (["--count", "0"], "--count 0: must be 1"),
        (["--dataset", "mnist6k"], "'mnist6k' is unknown"),
        (["--iterations", "0"], "--iterations 0"),
    ]:
        assert table1_levels.main([*arguments, "--out", str(tmp_path / "x")]) == 2
        err = capsys.readouterr().err
        assert says in err
    assert not list((tmp_path / "x").glob("*.md"))


def test_rivals_are_read_back_unless_something_else_is_asked_for(tmp_path):
    small = scale(tmp_path)
    table3_main.rival("random", small, "digits, 1", whole_epochs=1)
    path = tmp_path / "cells" / "random_digits,_1.json"
    held = json.loads(path.read_text())
    held["accuracies"] = [[0.123]]
    path.write_text(json.dumps(held))
    assert table3_main.rival("random", small, "digits, 1", 1).accuracies.tolist() == [[0.123]]
    longer = dataclasses.replace(small, epochs=3)
    assert table3_main.rival("random", longer, "digits, 1", 1).epochs == 3


@pytest.mark.parametrize("work", [accelerator.WHOLE, accelerator.REHEARSAL])
def test_the_accelerators_commands_are_ones_that_there_are(work, tmp_path):
    """Each parses as it stands; nothing is run."""
    commands = accelerator.steps(work, tmp_path / "a folder")
    assert list(commands) == ["bench", "chunks", "condense", "evaluate"]
    parsed = {name: cli.parse(commands[name][1:]) for name in ("condense", "evaluate")}
    assert parsed["evaluate"].run == parsed["condense"].out == tmp_path / "a folder" / "run"
    assert bench.parse(commands["bench"][1:]).out == tmp_path / "a folder" / "bench.json"
    assert chunks.parse(commands["chunks"][1:]).dataset in ("mnist5k", "digits")


def test_the_accelerators_work_is_the_issues():
    """The benchmark at ipc 1 and 10, seeds and networks 1, 4 and 16, and the paper's settings."""
    commands = accelerator.steps(accelerator.WHOLE, Path("x"))
    measured = bench.parse(commands["bench"][1:])
    assert (measured.shapes, measured.ipc, measured.quick) == (("mnist",), (1, 10), False)
    cut = chunks.parse(commands["chunks"][1:])
    assert (cut.ipc, cut.batch_real, cut.numbers) == ((1, 10), 256, (1, 4, 16))
    assert cli.parse(commands["condense"][1:]).config == Config(ipc=1)


def test_a_rehearsal_is_small_and_apart(tmp_path):
    """All steps skipped, only its folder is made."""
    commands = accelerator.steps(accelerator.REHEARSAL, tmp_path)
    assert bench.parse(commands["bench"][1:]).quick
    assert cli.parse(commands["condense"][1:]).config.iterations == 2
    skipped = ["--skip", *commands]
    assert accelerator.main(["--out", str(tmp_path), "--rehearse", *skipped]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["rehearsal"]


def test_compile_time_prints_a_line_a_program(capsys):
    assert compile_time.main("--classes 2 3 --ipc 1 --repeats 1".split()) == 0
    rows = [line.split("|")[1:3] for line in capsys.readouterr().out.splitlines()[-2:]]
    assert [[part.strip() for part in row] for row in rows] == [["1", "2"], ["1", "3"]]
    for wrong in (["--classes", "0"], ["--classes"], ["--repeats", "-1"]):
        assert compile_time.main(wrong) == 2
        assert wrong[0] in capsys.readouterr().err


def test_chunks_prints_a_line_a_program(capsys):
    """Two numbers: 1 at a time of 1; 1 and 2 at a time of 2; seeds and networks of each."""
    small = "--dataset digits --batch-real 2 --numbers 1 2 --epochs 1 --repeats 1".split()
    assert chunks.main(small) == 0
    lines = capsys.readouterr().out.splitlines()
    found = [line.split("|")[1:5] for line in lines if line.startswith(("| seeds", "| networks"))]
    places = [tuple(part.strip() for part in line) for line in found]
    expected = [("1", "1", "1"), ("1", "2", "1"), ("1", "2", "2")]
    assert [p[1:] for p in places if p[0] == "seeds"] == expected
    assert [p[1:] for p in places if p[0] == "networks"] == expected
    assert chunks.main(["--numbers", "0"]) == 2
