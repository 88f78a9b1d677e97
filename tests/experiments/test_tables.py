"""The paper's tables and figures as scripts: what sweeps promise, and a smoke test of each."""

import csv
import dataclasses
import json
import shutil
import subprocess
import sys
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import submitit  # sets up logging anew, and closes pytest's capture if a test does it
from command_line import gm_jax
from PIL import Image

from experiments import (
    command,
    figure_gradient_gap,
    figure_step_rules,
    launch,
    pacing,
    page,
    rates,
    recipes,
    rivals,
    sweep,
    table1_levels,
    table2_distances,
    table3_main,
    table4_cross_architecture,
    table5_signals,
)
from gm_jax.config import Config
from gm_jax.core import training
from gm_jax.core.distances import DISTANCES
from gm_jax.data.images import Dataset, by_class
from gm_jax.errors import StoppedError, UserError
from gm_jax.nn import networks
from gm_jax.storage import locking, reading, run_folder

MY_RESEARCH = """\
import jax
import jax.numpy as jnp


def manhattan(a, b):
    return sum(jnp.sum(jnp.abs(p - q)) for p, q in zip(jax.tree.leaves(a), jax.tree.leaves(b)))


def with_manhattan(method):
    return method._replace(distance=manhattan)
"""

VARIANT = "my_research:with_manhattan"


def smoke(folder, **changes):
    return sweep.resolve(sweep.Scale(out=folder, smoke=True, **changes), "test")


def rows_of(path):
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(autouse=True)
def programs_are_kept(monkeypatch):
    """A table lets each cell's programs go: of these small cells, half the time is compiling."""
    monkeypatch.setattr("jax.clear_caches", lambda: None)


@pytest.fixture(scope="module")
def research(tmp_path_factory):
    """A user's own module with a variant, which can be imported."""
    folder = tmp_path_factory.mktemp("research")
    (folder / "my_research.py").write_text(MY_RESEARCH)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield folder / "my_research.py"


@pytest.fixture(scope="module")
def swept(tmp_path_factory, research):
    """(folder, cells, found) of a finished sweep: a plain cell, one that diverges, a variant."""
    folder = tmp_path_factory.mktemp("swept")
    config = sweep.config(smoke(folder))
    cells = [
        sweep.Cell("plain", "", config),
        sweep.Cell("diverges", "", dataclasses.replace(config, image_lr=(1e29,))),
        sweep.Cell("manhattan", "", config, variant=VARIANT),
    ]
    return folder, cells, sweep.run(cells, smoke(folder))


@pytest.fixture
def copy(swept, tmp_path):
    """(scale, cells, found) of the finished sweep, in a folder that may be changed."""
    folder, cells, found = swept
    shutil.copytree(folder, tmp_path / "copy")
    return smoke(tmp_path / "copy"), cells, found


# --- sweeps ---------------------------------------------------------------------------------------


def _written(scale, name):
    return (scale.folder / "cells" / name / "config.json").stat().st_mtime_ns


@pytest.mark.slow
def test_finished_cells_are_not_run_again_and_unfinished_ones_are(copy):
    scale, cells, before = copy
    cells, before = [cells[0], cells[2]], [before[0], before[2]]
    (scale.folder / "cells" / "manhattan" / "synthetic.npz").unlink()  # as if it was interrupted
    times = {name: _written(scale, name) for name in ("plain", "manhattan")}
    after = sweep.run(cells, scale)
    assert _written(scale, "plain") == times["plain"]
    assert _written(scale, "manhattan") != times["manhattan"]
    for one, two in zip(before, after, strict=True):
        assert np.array_equal(one.accuracies, two.accuracies)


@pytest.mark.slow
def test_a_cell_that_diverges_is_shown_and_the_next_one_is_run(swept, capsys):
    _, _, found = swept
    assert [one.row for one in found] == ["plain", "diverges", "manhattan"]
    assert [one.accuracies.size for one in found] == [1, 0, 1]
    assert page.shown(found[1]) == "diverged"
    assert np.isnan(found[1].summary.mean)


@pytest.mark.slow
def test_a_variant_is_a_row_of_its_own(swept, tmp_path):
    """Its images differ from those without it; the CSV names it."""
    folder, _, found = swept
    assert [one.variant for one in found] == [None, None, VARIANT]
    plain, changed = (
        reading.load_condensed(folder / "cells" / name) for name in ("plain", "manhattan")
    )
    assert changed.variant.name == VARIANT
    assert not np.array_equal(plain.images, changed.images)
    page.write_csv(tmp_path / "a.csv", found)
    assert [row["variant"] for row in rows_of(tmp_path / "a.csv")] == ["", "", VARIANT]


@pytest.mark.slow
def test_a_variant_that_has_changed_is_refused_by_name(copy, research):
    scale, cells, _ = copy
    try:
        research.write_text(MY_RESEARCH + "# changed\n")
        with pytest.raises(UserError, match=VARIANT):
            sweep.run(cells[2:], scale)
    finally:
        research.write_text(MY_RESEARCH)


def test_a_table_of_variants_has_a_cell_for_each():
    scale = table2_distances.Settings(variants=(VARIANT,))
    *distances, own = table2_distances.cells(scale)
    assert [cell.row for cell in distances] == list(DISTANCES)
    assert all(cell.variant is None for cell in distances)
    assert (own.row, own.variant, own.config) == (VARIANT, VARIANT, sweep.config(scale))


@pytest.mark.slow
def test_a_folder_of_other_settings_is_refused_by_name(copy):
    scale, cells, _ = copy
    other = cells[0]._replace(config=dataclasses.replace(cells[0].config, ipc=2))
    with pytest.raises(UserError, match="--ipc 1, not 2"):
        sweep.run([other], scale)


@pytest.mark.slow
def test_an_evaluation_of_other_epochs_is_done_again(copy):
    scale, cells, _ = copy
    (found,) = sweep.run(cells[:1], dataclasses.replace(scale, epochs=1))
    assert found.epochs == 1


@pytest.mark.slow
def test_an_evaluation_on_other_images_is_done_again(copy):
    scale, cells, before = copy
    path = scale.folder / "cells" / "plain" / "evaluation.json"
    held = json.loads(path.read_text())
    held["ran"]["data"]["test"] = "0" * 64  # as if the test images have changed since
    held["convnet"]["condensed"]["accuracies"] = [[0.0]]
    path.write_text(json.dumps(held))
    (found,) = sweep.run(cells[:1], scale)
    assert np.array_equal(found.accuracies, before[0].accuracies)
    path.write_text("5")
    with pytest.raises(UserError, match=r"evaluation\.json is damaged"):
        sweep.run(cells[:1], scale)


@pytest.mark.slow
def test_no_network_is_observed_on_a_set_that_diverged(copy):
    scale, cells, _ = copy
    with pytest.raises(command.FailedError, match="diverges: the first set diverged at"):
        sweep.first_images(cells[1], scale)
    by_class = sweep.first_images(cells[0], scale)
    condensed = reading.load_condensed(scale.folder / "cells" / "plain")
    assert by_class.shape == (10, 1, 8, 8, 1)
    assert np.array_equal(by_class[:, 0], condensed.images[0])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"networks": ("vgg11",)}, "vgg11"),
        ({"variant": "my_research:nothing"}, "my_research:nothing"),
        ({"config": Config(dataset="digits", width=0)}, "--width 0"),
    ],
)
def test_every_cell_is_checked_before_the_first_one_runs(change, named, research, tmp_path):
    scale = smoke(tmp_path)
    good = sweep.Cell("a", "", sweep.config(scale))
    with pytest.raises(UserError, match=named):
        sweep.run([good, good._replace(row="b", **change)], scale)
    assert not (tmp_path / "cells").exists()


def test_a_cell_is_the_paper_but_for_what_it_changes():
    """Batches of mixed classes are at most four times those of a class, 1024 to 256."""
    paper = sweep.Scale()
    assert sweep.config(paper, scheme="intra") == Config(ipc=1, scheme="intra", seeds=5)
    inter = sweep.config(sweep.Scale(batch_real=32), scheme="interleaved")
    assert (inter.batch_real, inter.batch_mixed) == (32, 128)


def test_rivals_are_read_back_unless_something_else_is_asked_for(tmp_path, monkeypatch):
    """Only the bookkeeping: the smoke test of table 3 evaluates rivals."""
    epochs = []

    def evaluate(kind, scale, settings, full_epochs):
        epochs.append(scale.epochs)
        return np.array([[0.1 * scale.epochs]]), scale.epochs

    monkeypatch.setattr(rivals, "_evaluate", evaluate)
    small = smoke(tmp_path)
    longer = dataclasses.replace(small, epochs=3)
    for scale in (small, small, longer, longer):
        found = rivals.rival("random", scale, "digits, 1", full_epochs=1)
        assert found.epochs == scale.epochs
        assert found.accuracies.tolist() == [[0.1 * scale.epochs]]
    assert epochs == [2, 3]
    (path,) = (tmp_path / "cells").iterdir()
    path.write_text("[]")
    with pytest.raises(UserError, match="is damaged: delete it"):
        rivals.rival("random", longer, "digits, 1", full_epochs=1)


def test_a_rival_of_a_set_at_a_path_lies_with_the_others(tmp_path, monkeypatch):
    monkeypatch.setattr(rivals, "_evaluate", lambda kind, *rest: (np.array([[0.5]]), 1))
    np.savez(tmp_path / "x.npz", images=np.zeros((20, 8, 8), np.uint8), labels=np.arange(20) % 2)
    scale = dataclasses.replace(smoke(tmp_path / "out"), dataset=str(tmp_path / "x.npz"))
    for kind in ("random", "herding"):
        rivals.rival(kind, scale, f"{scale.dataset}, 1", full_epochs=1)
    assert len(list((tmp_path / "out" / "cells").glob("*.json"))) == 2


def test_rivals_are_chosen_by_what_they_are_called(monkeypatch):
    """Features are the pixels: 0, 1, 2, 9 of one class, of which herding takes 2, 1, k-center 2, 9.

    As worked by hand in test_coresets.py.
    """
    pixels = np.array([0, 1, 2, 9], np.uint8).reshape(4, 1, 1, 1)
    train = by_class(pixels, np.zeros(4, int), 1, ((0.0,), (1 / 255,)))
    dataset = Dataset("line", ("a",), train, pixels[:1], np.zeros(1, np.int32))
    network = networks.from_functions(lambda key: (), lambda params, x: x.reshape(len(x), -1))
    network = network._replace(features=lambda params, stats, x: x.reshape(len(x), -1))
    state = training.NetworkState((), {}, None)
    monkeypatch.setattr(rivals, "train", lambda *arguments: (state, None))
    for kind, expected in (("herding", [2, 1]), ("k-center", [2, 9])):
        x, y = rivals.choose(kind, jax.random.key(0), network, dataset, 2, None)
        assert np.round(np.asarray(x).ravel()).tolist() == expected
        assert y.tolist() == [0, 0]
    x, _ = rivals.choose(rivals.FULL, jax.random.key(0), network, dataset, 2, None)
    assert np.round(np.asarray(x).ravel()).tolist() == [0, 1, 2, 9]


def test_the_gap_of_two_gradients_by_hand():
    """(3, 0) and (0, 4): 90 degrees, 5 apart, which is 5/4 of the second; (1, 1), (0, 2): 45."""
    found = figure_gradient_gap.gap({"w": jnp.array([3.0, 0.0])}, {"w": jnp.array([0.0, 4.0])})
    assert tuple(map(float, found)) == pytest.approx((90, 5, 1.25))
    found = figure_gradient_gap.gap({"w": jnp.array([1.0, 1.0])}, {"w": jnp.array([0.0, 2.0])})
    assert tuple(map(float, found)) == pytest.approx((45, 2**0.5, 2**0.5 / 2), rel=1e-3)


def test_a_recipes_iterations_are_those_that_take_its_minutes():
    """3 minutes are 180 s: 90 iterations of 2 s, 1 of 100 s, and 1 of 1000 s too."""
    scale = recipes.Settings(recipes=("dc", "best", "idc"), minutes=(3.0,))
    found = recipes.cells(scale, {"dc": 2.0, "best": 100.0, "idc": 1000.0})
    assert [cell.config.iterations for cell in found] == [90, 2, 1]


@pytest.fixture
def clock(monkeypatch):
    """Time in which an iteration takes what its cell's list says; each then stays at the last."""
    now, asked = [0.0], []

    def iterations(config, dataset, variant):
        asked.append((config.iterations, config.outer_steps, config.seeds))
        seconds = list(config.network_lr)
        for number in range(config.iterations):
            now[0] += seconds[min(number, len(seconds) - 1)]
            yield number, None, None

    monkeypatch.setattr(pacing.api, "iterations", iterations)
    monkeypatch.setattr(pacing.time, "perf_counter", lambda: now[0])
    return asked


def timed(*seconds, **settings):
    return sweep.Cell("a", "", Config(dataset="digits", network_lr=seconds, seeds=3, **settings))


@pytest.mark.parametrize(
    ("cells", "means"),
    [
        pytest.param([(9.0, 3.0, 2.0)], [2.5], id="the first counts in none"),
        pytest.param([(9.0, 8.0, 2.0)], [5.0], id="two at least"),
        pytest.param([(9.0, 2.0, 2.0, 0.5, 3.0)], [7.5 / 4], id="till 5 s: 4.5 are too few"),
        pytest.param([(9.0, 1.0), (9.0, 5.0)], [1.0, 5.0], id="10 s for two cells: two rounds"),
        pytest.param([(9.0, 4.0, 1.0), (1.0,)], [7 / 4, 1.0], id="3 rounds take 9 s: 4"),
        pytest.param([(9.0, *[0.01] * 100, 7.0)], [0.01], id="100 at most"),
    ],
)
def test_seconds_are_means_of_iterations_that_take_turns(cells, means, clock):
    found = pacing.seconds_per_iteration([timed(*seconds) for seconds in cells])
    assert found == pytest.approx(means)


@pytest.mark.parametrize(("steps", "seconds"), [(5, 2.5), (100, 25.0)])
def test_seconds_are_scaled_from_ten_steps(steps, seconds, clock):
    """100 steps take ten times as long as ten."""
    assert pacing.seconds_per_iteration([timed(2.5, ipc=10, outer_steps=steps)]) == [seconds]
    assert clock == [(101, min(steps, 10), 1)]


def test_seconds_of_other_settings_are_kept(tmp_path, monkeypatch):
    """A table of other images between does not measure anew what was measured."""
    times = iter([2.0, 5.0])
    monkeypatch.setattr(pacing, "seconds_per_iteration", lambda cells: [next(times) for _ in cells])
    one, ten = (sweep.Cell("dc", "", Config(dataset="digits", ipc=ipc)) for ipc in (1, 10))
    for cell, seconds in ((one, 2.0), (ten, 5.0), (one, 2.0)):
        assert pacing.measured([cell], smoke(tmp_path)) == {"dc": seconds}


def test_seconds_that_are_none_are_refused(tmp_path):
    (tmp_path / "seconds.json").write_text('{"plain": {"seconds": 1}}')
    with pytest.raises(UserError, match=r"seconds\.json is damaged: delete it"):
        pacing.measured([], smoke(tmp_path))


# --- cells of tables ------------------------------------------------------------------------------


def test_rows_are_chosen():
    """Of table 1 DC is always there."""
    schemes = table1_levels.Settings(schemes=("intra",))
    assert [cell.row for cell in table1_levels.cells(schemes)] == ["intra", "intra, cosine (DC)"]
    distances = table2_distances.Settings(distances=("l2", "cosine"))
    assert [cell.row for cell in table2_distances.cells(distances)] == ["l2", "cosine"]


def test_learning_rates_are_columns():
    scale = table2_distances.Settings(distances=("l2",), image_lrs=(0.1, 3.0))
    found = table2_distances.cells(scale)
    assert [(cell.column, cell.config.image_lr) for cell in found] == [
        ("image lr 0.1", (0.1,)),
        ("image lr 3", (3.0,)),
    ]
    of_column = rates.at_rates([sweep.Cell("a", "ipc 1", Config())], scale)
    assert [cell.column for cell in of_column] == ["image lr 0.1, ipc 1", "image lr 3, ipc 1"]


def test_signals_at_equal_minutes_take_as_long_as_the_gradient():
    """A signal that takes twice as long gets half of the iterations."""
    cells = table5_signals.rows(table5_signals.Settings(dataset="digits", ipcs=(1,), iterations=9))
    seconds = {cell.name: 1.0 if cell.row == "gradient" else 2.0 for cell in cells}
    again = table5_signals.at_equal_minutes(cells, seconds)
    assert len(again) == len(cells) - 1
    assert {(cell.column, cell.config.iterations) for cell in again} == {
        ("ipc 1, equal minutes", 4)
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory, research):
    """A run from the command line: a variant, two inter weights, two networks."""
    folder = tmp_path_factory.mktemp("run") / "own"
    settings = (
        "--dataset digits --ipc 1 --width 4 --depth 1 --outer-steps 1 --iterations 2 "
        f"--batch-real 8 --inter-weight 1 10 --variant {VARIANT}"
    ).split()
    assert gm_jax("condense", *settings, "--out", folder)[0] == 0
    networks = ("--networks", "convnet", "mlp")
    assert gm_jax("evaluate", folder, *networks, "--count", 2, "--epochs", 2)[0] == 0
    return folder


@pytest.mark.slow
def test_a_run_from_the_command_line_is_a_row_for_each_value_and_network(run):
    found = sweep.read_run(run)
    assert [one.row for one in found] == [
        f"{run}, inter_weight 1",
        f"{run}, inter_weight 10",
        f"{run}, inter_weight 1, mlp",
        f"{run}, inter_weight 10, mlp",
    ]
    held = json.loads((run / "evaluation.json").read_text())
    expected = held["mlp"]["condensed, inter_weight 10"]["accuracies"]
    assert found[3].accuracies.tolist() == expected
    assert {(one.variant, one.epochs) for one in found} == {(VARIANT, 2)}
    assert all(one.seconds > 0 for one in found)


@pytest.mark.slow
def test_runs_that_are_none_are_refused_before_the_first_cell(run, tmp_path, capsys):
    unevaluated = tmp_path / "unevaluated"
    shutil.copytree(run, unevaluated)
    (unevaluated / "evaluation.json").unlink()
    damaged, others, elsewhere = (tmp_path / name for name in ("damaged", "others", "elsewhere"))
    for folder in (damaged, others, elsewhere):
        shutil.copytree(run, folder)
    (damaged / "metrics.jsonl").write_text("{}\n")
    held = json.loads((run / "evaluation.json").read_text())
    renamed = {k: v if k == "ran" else {"protocol": v["protocol"]} for k, v in held.items()}
    (others / "evaluation.json").write_text(json.dumps(renamed))  # of sets that it has not
    held["ran"]["data"]["test"] = "another"
    (elsewhere / "evaluation.json").write_text(json.dumps(held))
    for folder in (unevaluated, damaged, others, elsewhere, tmp_path / "nothing"):
        out = tmp_path / "out"
        arguments = ["--smoke", "--runs", str(folder), "--out", str(out)]
        assert table2_distances.main(arguments) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert str(folder) in line
        assert not out.exists()


# --- the command line -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--count", "0"], ["--count 0", "1 to"]),
        (["--dataset", "mnist6k"], ["mnist6k", "mnist5k"]),
        (["--iterations", "0"], ["--iterations 0", "1 to"]),
        (["--nonsense"], ["--nonsense"]),
    ],
)
def test_a_wrong_setting_ends_in_one_line(arguments, words, tmp_path, capsys):
    assert table1_levels.main([*arguments, "--out", str(tmp_path / "x")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("table1_levels: ")
    assert all(word in line for word in words), line
    assert not (tmp_path / "x").exists()


def test_settings_that_a_figure_does_not_use_are_refused(tmp_path, capsys):
    for words in (["--seeds", "2"], ["--count", "3"], ["--epochs", "9"]):
        given = ["--smoke", *words, "--out", str(tmp_path / "x")]
        assert figure_gradient_gap.main(given) == 2
        assert f"{words[0]} has no meaning here" in capsys.readouterr().err


def test_text_needs_no_pictures():
    """Without Matplotlib, what draws nothing works."""
    program = "import sys; sys.modules['matplotlib'] = None; import experiments.overview"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_help_names_every_setting(capsys):
    with pytest.raises(SystemExit, match="0"):
        table2_distances.main(["--help"])
    shown = capsys.readouterr().out
    for field in dataclasses.fields(table2_distances.Settings):
        assert "--" + field.name.replace("_", "-") in shown


@pytest.mark.parametrize(
    ("script", "setting"),
    [
        (table3_main, "--datasets"),
        (table3_main, "--ipcs"),
        (table4_cross_architecture, "--sources"),
        (table4_cross_architecture, "--targets"),
    ],
)
def test_a_table_has_rows_and_columns(script, setting, capsys):
    assert script.main([setting]) == 2
    assert f"{setting} (): must be at least one value" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UserError("two\nlines"), 2),
        (OSError("full"), 2),
        (command.FailedError("half of it"), 1),
        (StoppedError("stopped", "SIGTERM"), 143),
        (KeyboardInterrupt(), 130),
        (MemoryError(), 2),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory"), 2),
    ],
)
def test_every_failure_is_one_line_and_a_status(error, status, capsys):
    def work(settings, typed):
        assert typed == "python -m experiments.x --ipc 2"
        raise error

    assert command.main("experiments.x", "", sweep.Scale, work, ["--ipc", "2"]) == status
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("x: ")


# --- every script ---------------------------------------------------------------------------------


def assert_written(folder, name, out, script=None):
    """The rows of the CSV, if table, plot and command are there too."""
    text = (folder / f"{name}.md").read_text()
    assert f"    python -m experiments.{script or name} --smoke" in text
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert table[0] in out
    if not name.startswith("figure"):
        html = (folder / f"{name}.html").read_text()
        assert html.count("<img") == sum(map(run_folder.finished, folder.glob("cells/*")))
        assert html.count("<tr>") == len([line for line in table if not line.startswith("| ---")])
    with Image.open(folder / f"{name}.png") as picture:
        assert np.asarray(picture.convert("L")).std() > 0
    return rows_of(folder / f"{name}.csv")


slow = pytest.mark.slow


@pytest.mark.parametrize(
    ("script", "rows", "base"),
    [
        pytest.param(table1_levels, 5, "multi-level", marks=slow),
        pytest.param(table3_main, 4 + 5, None, marks=slow),
        pytest.param(table4_cross_architecture, 3, None, marks=slow),
        pytest.param(table5_signals, 6 + 6, "gradient", marks=slow),
        pytest.param(recipes, 6, "paper", marks=slow),
    ],
)
def test_tables_have_all_their_cells(script, rows, base, tmp_path, capsys):
    """And, where they compare, a table of differences from their first row or the paper's."""
    assert script.main(["--smoke", "--out", str(tmp_path)]) == 0
    found = assert_written(tmp_path, script.NAME, capsys.readouterr().out)
    assert len(found) == rows
    differences = f"| less {base}, in pairs" in (tmp_path / f"{script.NAME}.md").read_text()
    assert differences == (base is not None)
    assert all(0 <= float(row["mean"]) <= 100 for row in found)


@pytest.mark.slow
def test_recipes_share_minutes_and_parts_of_best_are_taken_back(tmp_path, capsys):
    """Seconds per iteration are measured once: a second run reads the file, and all cells."""
    assert recipes.main(["--smoke", "--ablate", "--out", str(tmp_path)]) == 0
    found = assert_written(tmp_path, "recipes_ablation", capsys.readouterr().out, "recipes")
    assert [row["row"] for row in found] == list(recipes.PARTS)
    seconds = (tmp_path / "seconds.json").read_bytes()
    assert recipes.main(["--smoke", "--ablate", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "seconds.json").read_bytes() == seconds


@pytest.mark.slow
def test_the_table_of_distances_has_rows_of_variants_and_runs(run, tmp_path, capsys):
    further = ["--variants", VARIANT, "--runs", str(run)]
    assert table2_distances.main(["--smoke", "--out", str(tmp_path), *further]) == 0
    found = assert_written(tmp_path, "table2_distances", capsys.readouterr().out)
    names = [row["row"] for row in found]
    assert names[: len(DISTANCES) + 1] == [*DISTANCES, VARIANT]
    assert names[len(DISTANCES) + 1 :] == [one.row for one in sweep.read_run(run)]
    text = (tmp_path / "table2_distances.md").read_text()
    assert all(f"| {name} |" in text for name in names)
    assert "| less cosine+l2, in pairs" in text


@pytest.mark.slow
def test_the_table_of_signals_at_two_learning_rates(tmp_path, capsys):
    """Six rows at equal iterations and at equal minutes, each at both rates, and compared there."""
    rates = ["--image-lrs", "0.1", "1"]
    assert table5_signals.main(["--smoke", "--out", str(tmp_path), *rates]) == 0
    found = assert_written(tmp_path, "table5_signals", capsys.readouterr().out)
    columns = [f"image lr {rate}, ipc 1{at}" for rate in (0.1, 1) for at in ("", ", equal minutes")]
    assert {row["column"] for row in found} == set(columns)
    assert all(sum(row["column"] == column for row in found) == 6 for column in columns)
    text = (tmp_path / "table5_signals.md").read_text()
    assert text.count("no pairs") == 0


@pytest.mark.parametrize(
    ("script", "columns", "rows"),
    [
        # two distances, two networks, three epochs
        pytest.param(figure_gradient_gap, ["distance", "network", "epoch"], 2 * 2 * 3, marks=slow),
        # three rules, two networks, three outer steps
        pytest.param(figure_step_rules, ["rule", "network", "outer_step"], 3 * 2 * 3, marks=slow),
    ],
)
def test_figures_have_all_their_points(script, columns, rows, tmp_path, capsys):
    assert script.main(["--smoke", "--out", str(tmp_path)]) == 0
    found = assert_written(tmp_path, script.NAME, capsys.readouterr().out)
    assert len({tuple(row[column] for column in columns) for row in found}) == rows == len(found)


# --- many jobs ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_cells_of_single_jobs_make_the_table_of_one(tmp_path, capsys):
    """Listed, run one by one in any order, the last two by submitit; then the table is read."""
    out = tmp_path / "fleet"
    words = ["--smoke", "--out", str(out)]
    with pytest.raises(SystemExit, match="0"):
        table1_levels.main([*words, "--list-cells"])
    listed = capsys.readouterr().out.splitlines()
    names = ["intra", "inter", "interleaved", "multi-level", "intra, cosine (DC)"]
    assert listed == [f"{number} {name}" for number, name in enumerate(names)]
    assert not out.exists()
    for cell in (4, 0):
        with pytest.raises(SystemExit, match="0"):
            table1_levels.main([*words, "--cell", str(cell)])
    assert not (out / "table1_levels.md").exists()
    assert len(list((out / "cells").iterdir())) == 2
    given = ["table1_levels", "--cluster", "local", "--logs", str(tmp_path / "logs")]
    assert launch.main([*given, "--", *words]) == 0
    shown = capsys.readouterr().out
    assert [line.partition(": ")[2] for line in shown.splitlines() if ": cell" in line] == [
        f"cell {number}" for number in range(5)
    ]
    before = {path: path.stat().st_mtime_ns for path in out.rglob("synthetic.npz")}
    assert len(before) == 5
    assert table1_levels.main(words) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert (out / "table1_levels.md").exists()


@pytest.mark.slow
def test_jobs_that_fail_or_cannot_be_are_named(tmp_path, capsys):
    """A cell that is not there, a script's wrong argument, a cell in use by another job."""
    out = tmp_path / "fleet"
    words = ["--smoke", "--out", str(out)]
    assert table1_levels.main([*words, "--cell", "5"]) == 2
    assert "--cell 5: must be 0 to 4" in capsys.readouterr().err
    assert launch.main(["table1_levels", "--cluster", "local", "--", "--count", "0"]) == 2
    assert "--count 0" in capsys.readouterr().err
    assert launch.main(["table1_levels", "--", "--help"]) == 2
    assert "--help after -- is of the script alone" in capsys.readouterr().err
    assert launch.main(["table1_levels", "--", *words]) == 2  # there is no Slurm here
    assert "--cluster slurm: " in capsys.readouterr().err
    local = ["table1_levels", "--cluster", "local"]
    assert launch.main([*local, "--partition", "a", "--", *words]) == 2
    assert "--partition has no meaning" in capsys.readouterr().err
    refused = mock.Mock(side_effect=RuntimeError("sbatch: error:\ninvalid partition"))
    with mock.patch.object(submitit.AutoExecutor, "submit", refused):
        assert launch.main([*local, "--logs", str(tmp_path / "logs"), "--", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot be submitted: sbatch: error: invalid partition" in line
    with locking.locked(out / "cells" / "intra"):
        assert table1_levels.main([*words, "--cell", "0"]) == 2
        assert "in use" in capsys.readouterr().err
        logs = ["--logs", str(tmp_path / "logs")]
        given = ["table1_levels", "--cluster", "local", *logs, "--", *words]
        assert launch.main(given) == 1
        assert "launch: cells 0 failed" in capsys.readouterr().err
