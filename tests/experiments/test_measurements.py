"""Chunks, compile times, and the steps for an accelerator: what they print and call."""

import dataclasses
import math

import pytest

from experiments import command
from experiments.benchmarks import (
    accelerator,
    bench,
    cases,
    chunks,
    compile_time,
    growth,
    levers,
    limit,
    signals,
    starts,
)
from gm_jax.cli import main as cli
from gm_jax.config import Config


def rows_of(shown):
    """The cells of a printed Markdown table, without its head."""
    lines = [line for line in shown.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@pytest.mark.parametrize("work", [accelerator.FULL, accelerator.REHEARSAL])
def test_the_commands_for_an_accelerator_parse(work, tmp_path):
    """Each as it is written; nothing is run."""
    commands = accelerator.steps(work, tmp_path / "a folder")
    assert list(commands) == ["bench", "chunks", "condense", "evaluate"]
    parsed = {name: cli.parse(commands[name][1:]) for name in ("condense", "evaluate")}
    assert parsed["evaluate"].run == parsed["condense"].out == tmp_path / "a folder" / "run"
    measured = command.parse(bench.Settings, commands["bench"][1:])
    assert measured.out == tmp_path / "a folder" / "bench.json"
    assert command.parse(chunks.Settings, commands["chunks"][1:]).dataset in ("mnist5k", "digits")


def test_an_accelerator_is_measured_at_the_papers_settings(tmp_path):
    """The benchmark at ipc 1 and 10, sets and networks 1 and 4, and the paper's run."""
    commands = accelerator.steps(accelerator.FULL, tmp_path)
    measured = command.parse(bench.Settings, commands["bench"][1:])
    assert (measured.shapes, measured.ipc, measured.quick) == (("mnist",), (1, 10), False)
    cut = command.parse(chunks.Settings, commands["chunks"][1:])
    assert (cut.ipc, cut.batch_real, cut.numbers) == ((10,), 256, (1, 4))
    condensed = cli.parse(commands["condense"][1:])
    assert condensed.config == Config(ipc=1)
    assert condensed.no_compile_cache  # it is timed


def test_a_rehearsal_is_small_and_apart(tmp_path):
    """With all steps skipped, only its folder is made."""
    commands = accelerator.steps(accelerator.REHEARSAL, tmp_path)
    assert command.parse(bench.Settings, commands["bench"][1:]).quick
    assert cli.parse(commands["condense"][1:]).config.iterations == 2
    skipped = ["--skip", *commands]
    assert accelerator.main(["--out", str(tmp_path), "--rehearse", *skipped]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["rehearsal"]


def test_a_step_that_fails_does_not_stop_the_next_and_is_named(tmp_path, monkeypatch, capsys):
    commands = {"bench": ["no_such_module"], "condense": ["this"]}
    monkeypatch.setattr(accelerator, "steps", lambda work, out: commands)
    assert accelerator.main(["--out", str(tmp_path), "--rehearse"]) == 1
    assert "bench" in capsys.readouterr().err
    assert (tmp_path / "rehearsal" / "condense.txt").exists()


@pytest.mark.parametrize(
    ("main", "arguments"),
    [
        (compile_time.main, ["--classes", "0"]),
        (compile_time.main, ["--classes"]),
        (compile_time.main, ["--repeats", "-1"]),
        (starts.main, ["--ipc", "0"]),
        (levers.main, ["--ipc", "0"]),
        (signals.main, ["--batch-real", "0"]),
        (chunks.main, ["--numbers", "0"]),
        (chunks.main, ["--dataset", "mnist6k"]),
        (accelerator.main, ["--skip", "nonsense"]),
        (limit.main, ["--shape", "mnist6"]),
        (growth.main, ["--quantities", "height"]),
        (growth.main, ["--out", "no-folder/growth.png"]),
    ],
)
def test_wrong_settings_end_in_one_line(main, arguments, capsys):
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert arguments[-1] in line


def test_the_work_of_growth_is_that_of_the_benchmark():
    """Two outer steps with two inner epochs between them, in both."""
    case = cases.Case(cases.ITERATION, "mnist", 10, growth.BATCH_REAL, 2, 10, inner_epochs=2)
    assert growth.flops(growth.Size(width=cases.WIDTH)) == cases.flops(case)
    assert growth.flops(growth.Size(sets=3)) == 3 * growth.flops(growth.Size())


def test_an_exponent_is_the_slope_in_the_logarithms():
    """seconds = 5 value^1.5, memory = 7 value^0."""
    points = [growth.Point(v, 1, 5 * v**1.5, 7, 1.0) for v in (1, 4, 9)]
    assert growth.exponent(points, "seconds") == pytest.approx(1.5)
    assert growth.exponent(points, "memory") == pytest.approx(0)


@pytest.mark.slow
def test_growth_prints_rows_and_exponents_and_draws(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(growth, "VALUES", {"sets": (1, 2)})
    monkeypatch.setattr(growth, "DEPTH", 1)
    out = tmp_path / "growth.png"
    assert growth.main(["--quantities", "sets", "--repeats", "1", "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    starts = [line.split(" | ")[:2] for line in shown.splitlines() if line.startswith("| ")]
    assert starts[1:3] == [["| sets", "1"], ["| sets", "2"]]
    assert starts[-1] == ["| sets", "1.00"]  # twice the sets, twice the work
    assert out.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_limit_is_the_products_and_the_rest(capsys):
    """Of convolutions 2 and 3 a quarter of the direct sum's FLOPs are left, 36 products a tile
    instead of 144; the first one, of one channel, is a sum without products, and has no gradient
    by the image: its gradient by the kernel is left.
    """
    assert limit.main("--batch-real 2 --repeats 1".split()) == 0
    whole, *products, total, rest = rows_of(capsys.readouterr().out)
    assert [row[0] for row in (whole, total, rest)] == [
        "convnet, mnist, real gradients",
        "these products",
        "the rest",
    ]
    assert sorted(row[0] for row in products) == [
        f"{what} at {size}"
        for what in limit.KINDS.values()
        for size in ("16x16", "28x28", "8x8")
        if (what, size) != ("input gradients", "28x28")  # no gradient by real images
    ]
    first, *others, _ = cases.convnet_flops((32, 32, 1), cases.CLASSES, cases.WIDTH, cases.DEPTH)
    images = 2 * cases.CLASSES
    found = {row.name: row.flops for row in limit.measure(limit.Settings(batch_real=2, repeats=1))}
    assert found["these products"] == images * (first + 3 * sum(others) / 4)


def test_the_limit_takes_matching_too():
    """Its gradient and pullback convolve in all three layers, and take weight gradients of them."""
    found = limit.convolutions(*limit.work_of(cases.Case(cases.MATCH, "mnist", 1)))
    names = {limit.row_name(one) for one in found}
    assert names == {f"{w} at {s}" for w in limit.KINDS.values() for s in ("28x28", "16x16", "8x8")}


@pytest.mark.parametrize("network", ["convnet", "vgg11"])
@pytest.mark.parametrize("part", [cases.REAL, cases.EPOCH])
def test_the_limit_counts_all_convolutions(part, network):
    """As the direct sum, they and three products of the dense layer are a gradient of each image.

    All microbatches are full: of a class's 32 real images two of 16, of 80 synthetic ones four of
    20 (VGG11: all at once in both).
    """
    case = cases.Case(part, "mnist", 0, network=network)
    case = dataclasses.replace(case, **({"batch_real": 32} if part == cases.REAL else {"ipc": 8}))
    images = cases.CLASSES * (case.batch_real or case.ipc)
    direct = 0
    for one, times in limit.convolutions(*limit.work_of(case)).items():
        _, outputs, kernel = limit.operands(one)
        direct += times * 2 * math.prod(outputs) * math.prod(kernel[1:4])
    *_, dense = cases.network_flops(network, cases.SHAPES["mnist"], cases.CLASSES)
    assert direct == cases.flops(case) - 3 * images * dense


@pytest.mark.slow
def test_compile_time_prints_a_row_for_each_program(capsys):
    assert compile_time.main("--classes 2 3 --ipc 1 --repeats 1".split()) == 0
    rows = rows_of(capsys.readouterr().out)
    assert [row[:2] for row in rows] == [["1", "2"], ["1", "3"]]


@pytest.mark.slow
def test_a_warm_start_is_faster_than_a_cold_one(capsys):
    """A cold one compiles for several seconds."""
    assert starts.main("--ipc 1 --repeats 1".split()) == 0
    [[ipc, cold, warm]] = rows_of(capsys.readouterr().out)
    assert ipc == "1"
    assert float(warm.split()[0]) < float(cold.split()[0])


def test_a_start_that_fails_says_what_the_run_said(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(command.FailedError, match="is a file"):
        starts.seconds_to_start(1, tmp_path / "cache", tmp_path / "run")


@pytest.mark.slow
def test_chunks_prints_a_row_for_each_program(capsys):
    """Two numbers: 1 at a time of 1; 1 and 2 at a time of 2; sets and networks of each."""
    small = "--dataset digits --batch-real 2 --numbers 1 2 --epochs 1 --repeats 1".split()
    assert chunks.main(small) == 0
    places = [tuple(row[:4]) for row in rows_of(capsys.readouterr().out)]
    expected = [("1", "1", "1"), ("1", "2", "1"), ("1", "2", "2")]
    for kind in ("sets", "networks"):
        assert [place[1:] for place in places if place[0] == kind] == expected


@pytest.mark.slow
def test_levers_print_a_row_each(capsys, monkeypatch):
    monkeypatch.setattr(levers, "LEVERS", {k: levers.LEVERS[k] for k in ("plain", "warm-up")})
    assert levers.main("--ipc 1 --batch-real 2 --repeats 1".split()) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| 1 |")]
    assert [row.split(" | ")[1] for row in rows] == ["plain", "warm-up"]
    assert rows[0].split(" | ")[3] == "1.00"


@pytest.mark.slow
def test_signals_print_a_row_each(capsys, monkeypatch):
    two = ("gradient", "2 steps")
    monkeypatch.setattr(signals, "SIGNALS", {name: signals.SIGNALS[name] for name in two})
    assert signals.main("--ipc 1 --batch-real 2 --repeats 1".split()) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| 1 |")]
    assert [row.split(" | ")[1] for row in rows] == list(two)
    temporary, peak = map(float, rows[1].rstrip(" |").split(" | ")[6:])
    assert 0 < temporary * 2**20 / 1e6 < peak  # MiB and MB: the process holds it, and imports
