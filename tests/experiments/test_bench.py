"""The benchmark's arithmetic, programs and refusals.  Nothing is timed, no PyTorch is needed."""

import contextlib
import dataclasses
import json
import re

import jax
import pytest

from experiments.benchmarks import bench, report, trace, worker, worker_gm_jax
from experiments.benchmarks.cases import (
    PARTS,
    Case,
    case_name,
    convnet_flops,
    flops,
    network_flops,
)


def test_flops_of_a_tiny_network_by_hand():
    # 8x8x3 -> 4 channels: 2 * 9 * 64 * 3 * 4; 4x4x4 -> 4: 2 * 9 * 16 * 4 * 4; 2 * 2 * 4 -> 2
    assert convnet_flops((8, 8, 3), classes=2, width=4, depth=2) == [13824, 4608, 64]
    # 28x28x1 is padded to an output of 32x32: 2 * 9 * 1024 * 1 * 2; 16 * 16 * 2 -> 3
    assert convnet_flops((28, 28, 1), classes=3, width=2, depth=1) == [36864, 3072]


def test_flops_of_the_other_networks_by_hand():
    """In multiply-adds of CIFAR-10, VGG11 is known to have 0.15 G, ResNet18 0.56 G."""
    vgg11, resnet18 = (network_flops(n, (32, 32, 3), 10) for n in ("vgg11", "resnet18"))
    by_hand = [27 * 64 * 1024, 576 * 128 * 256, 1152 * 256 * 64, 2304 * 256 * 64]
    by_hand += [2304 * 512 * 16, 4608 * 512 * 16, 4608 * 512 * 4, 4608 * 512 * 4, 512 * 10]
    assert vgg11 == [2 * n for n in by_hand]
    stage = lambda i, o, pixels: 9 * i * o * pixels + 3 * 9 * o * o * pixels
    by_hand = 27 * 64 * 1024 + stage(64, 64, 1024) + 512 * 10
    for i, o, pixels in ((64, 128, 256), (128, 256, 64), (256, 512, 16)):
        by_hand += stage(i, o, pixels) + i * o * pixels
    assert sum(resnet18) == 2 * by_hand
    # 28x28x1: VGG11 pads it to 32x32; ResNet18's stages are 28, 14, 7 and 4 pixels wide
    vgg11_grey, resnet18_grey = (network_flops(n, (28, 28, 1), 10) for n in ("vgg11", "resnet18"))
    assert vgg11_grey == [2 * 9 * 64 * 1024, *vgg11[1:]]
    by_hand = 9 * 64 * 784 + stage(64, 64, 784) + 512 * 10
    for i, o, pixels in ((64, 128, 196), (128, 256, 49), (256, 512, 16)):
        by_hand += stage(i, o, pixels) + i * o * pixels
    assert sum(resnet18_grey) == 2 * by_hand
    assert round(sum(vgg11) / 2e9, 2) == 0.15
    assert round(sum(resnet18) / 2e9, 2) == 0.56


def test_flops_of_each_part_by_hand():
    # 28x28x1: 2 * 9 * (1024 * 128 + (256 + 64) * 128^2) + 2 * 2048 * 10
    first = 2 * 9 * 1024 * 128
    forward = first + 2 * 9 * 320 * 128**2 + 40960
    gradient = 3 * forward - first
    real, match, epoch = 10 * 7 * gradient, 30 * (gradient + 6 * forward), 30 * gradient
    steps = {"outer_steps": 4, "paper_outer_steps": 9, "inner_epochs": 5}
    assert flops(Case("real gradients", "mnist", batch_real=7)) == real
    assert flops(Case("synthetic match + gradient", "mnist", 3)) == match
    assert flops(Case("inner epoch", "mnist", 3)) == epoch
    found = flops(Case("iteration", "mnist", 3, batch_real=7, **steps))
    assert found == 4 * (real + match) + 3 * 5 * epoch
    assert flops(Case("evaluation", "mnist", 3, epochs=8)) == 8 * epoch + 1000 * forward


def test_real_gradients_are_measured_once_a_shape():
    cases = list(bench.list_cases(bench.Settings(shapes=("mnist",), ipc=(1, 10), batch_real=64)))
    assert [case_name(case) for case in cases] == [
        "convnet, mnist, real gradients",
        "convnet, mnist, ipc 1, synthetic match + gradient",
        "convnet, mnist, ipc 1, inner epoch",
        "convnet, mnist, ipc 1, iteration, 1 outer step",
        "convnet, mnist, ipc 1, evaluation, 20 epochs",
        "convnet, mnist, ipc 10, synthetic match + gradient",
        "convnet, mnist, ipc 10, inner epoch",
        "convnet, mnist, ipc 10, iteration, 2 of 10 outer steps",
        "convnet, mnist, ipc 10, evaluation, 20 epochs",
    ]
    assert cases[0] == Case("real gradients", "mnist", batch_real=64)
    assert cases[7].inner_epochs == 50  # the paper's at ipc 10


def test_the_table_shows_the_fastest_calls_and_their_ratio():
    result = report.Result(
        case=Case("inner epoch", "cifar10", 10),
        ours=report.Measured([4.0, 1.0, 2.0], imports_bytes=200_000_000, peak_bytes=512_000_000),
        authors=report.Measured([9.0, 3.0, 2.5], 230_000_000, peak_bytes=1_600_000_000),
        tuned=report.Measured([2.2, 2.5, 2.6], 231_000_000, peak_bytes=900_000_000),
        compile_s=6.25,
        flops=90_000_000_000,
        matrix_rate=100e9,
    )
    assert report.row(result) == (
        *("convnet", "cifar10", "10", "inner epoch"),
        *("1.00 (2.00, 4.00)", "2.50 (3.00, 9.00)", "2.50"),  # 2.5 / 1.0
        *("2.20 (2.50, 2.60)", "2.20"),  # 2.2 / 1.0
        *("512 (200)", "1600 (230)", "900 (231)"),
        *("6.2", "90%"),  # 90 GFLOP / 1.0 s / 100 GFLOP/s
    )
    lines = report.table([result, result]).splitlines()
    assert len(lines) == 4
    assert {line.count("|") for line in lines} == {len(report.HEAD) + 1}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--repeats", "0"], ["--repeats 0", "1 to"]),
        (["--ipc", "1", "-3"], ["--ipc -3", "1 to"]),
        (["--outer-steps", "0"], ["--outer-steps 0", "1 to"]),
        (["--parts", "outer epoch"], ["--parts", "outer epoch", "inner epoch"]),
        (["--shapes", "imagenet"], ["--shapes", "imagenet", "mnist", "cifar10"]),
        (["--parts"], ["--parts", "at least one"]),
        (["--out", "no/such/folder/bench.json"], ["--out no/such/folder/bench.json"]),
    ],
)
def test_a_mistake_ends_in_one_line_and_status_2(arguments, words, capsys):
    assert bench.main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("bench: ")
    assert all(word in line for word in words), line


def test_quick_is_small():
    cases = list(bench.list_cases(bench.resolve(bench.Settings(quick=True))))
    assert {case.shape for case in cases} == {"mnist"}
    assert [case.part for case in cases] == list(PARTS)
    assert max(case.batch_real for case in cases) == 32


def test_a_dead_worker_is_an_error_that_names_the_case(capfd):
    with (
        worker.start("experiments.no_such_worker", "mnist, ipc 1, inner epoch") as ask,
        pytest.raises(worker.WorkerError, match=r"mnist, ipc 1, inner epoch: .* 1$"),
    ):
        ask("time")
    assert "no_such_worker" in capfd.readouterr().err


def test_a_worker_that_dies_ends_the_benchmark_with_status_1(monkeypatch, tmp_path, capfd):
    monkeypatch.setattr(bench, "AUTHORS", "experiments.no_such_worker")
    assert bench.main(["--quick", "--out", str(tmp_path / "bench.json")]) == 1
    assert "bench: checking the port: experiments.no_such_worker died" in capfd.readouterr().err


def test_on_an_accelerator_all_cases_are_prepared_before_one_is_timed(monkeypatch):
    """Each program's seconds, memory and compile time end up in its own columns."""
    asked = []

    @contextlib.contextmanager
    def start(module, purpose):
        of = {bench.OURS: 1, bench.AUTHORS: 2, bench.TUNED: 3}[module]
        replies = {
            "memory": {"imports_bytes": 10 * of, "peak_bytes": 1000},
            "prepare": {"compile_s": 0.5} | ({"peak_bytes": 100 * of} if of < 3 else {}),
            "time": 10.0 * of,
        }

        def ask(name, argument=None):
            asked.append(name)
            return replies[name]

        yield ask

    monkeypatch.setattr(bench, "start", start)
    settings = bench.Settings(shapes=("mnist",), ipc=(1,), repeats=2)
    found = list(bench.measure_all(settings, "gpu", lambda name: 7.0))
    assert [result.case for result in found] == list(bench.list_cases(settings))
    assert asked == ["prepare"] * 3 * len(found) + ["memory"] * 3 + ["time"] * 6 * len(found)
    assert found[0].tuned == report.Measured([30.0, 30.0], 30, 1000)  # it told no peak of a case
    assert found[0].authors == report.Measured([20.0, 20.0], 20, 200)
    assert found[0].ours == report.Measured([10.0, 10.0], 10, 100)
    assert (found[0].compile_s, found[0].matrix_rate) == (0.5, 7.0)


@pytest.mark.parametrize(("seconds", "turns"), [(0.01, 30), (2.0, 4), (30.0, 3)])
def test_short_calls_are_repeated_for_20_seconds_but_at_most_30_times(seconds, turns):
    """Three programs of 2 s have taken 18 s after three turns, so they take a fourth."""
    found = bench.take_turns([lambda *_: seconds] * 3, "a case", 3)
    assert found == [[seconds] * turns] * 3


def test_results_are_saved_as_json(tmp_path):
    settings = bench.Settings(out=tmp_path / "bench.json")
    measured = report.Measured([1.0], 1, 2)
    case = Case("inner epoch", "mnist", 1)
    result = report.Result(case, measured, measured, measured, 3.0, 4, 5.0)
    bench.save(settings, {"python": "3"}, [result])
    assert [path.name for path in tmp_path.iterdir()] == ["bench.json"]
    saved = json.loads(settings.out.read_text())
    assert saved["machine"] == {"python": "3"}
    assert saved["settings"]["ipc"] == [1, 10, 50]
    assert saved["results"] == [dataclasses.asdict(result)]


def test_peak_memory_is_in_bytes_of_this_process():
    held = bytearray(b"x") * 50_000_000
    assert len(held) < worker.peak_resident_bytes() < 2**36


@pytest.mark.parametrize("part", [part for part in PARTS if part != "iteration"])
def test_every_part_traces(part):
    """The iteration is lowered below."""
    case = Case(part, "mnist", 2, 3, outer_steps=2, inner_epochs=2, epochs=2)
    function, arguments = worker_gm_jax.work(case)
    assert jax.tree.leaves(jax.eval_shape(function, *arguments))


def test_the_phases_of_an_iteration_have_all_its_flops():
    """Fresh network, draws and match count nothing in either; f as by hand above."""
    forward = 2 * 9 * (1024 * 128 + 320 * 128**2) + 40960
    case = Case("iteration", "mnist", 3, 7, outer_steps=4, inner_epochs=5)
    counted = trace.phase_flops(case)
    assert counted["pullback"] == 4 * 30 * 6 * forward
    assert sum(counted.values()) == flops(case)


def test_an_iterations_program_names_its_phases():
    case = Case("iteration", "mnist", 2, 3, outer_steps=2, inner_epochs=2)
    function, arguments = worker_gm_jax.work(case)
    program = jax.jit(function).lower(*arguments).as_text(debug_info=True)
    found = {trace.phase(source) for source in re.findall(r'loc\("([^"]*)"', program)}
    assert found == {*trace.phase_flops(case), "fresh_network", "draw", "match", "the rest"}


def test_loops_and_calls_are_left_to_their_bodies():
    """Whatever their names; a tuple's type holds brackets too."""
    lines = [
        '  ROOT %add.1 = f32[6]{0} fusion(%a, %b), metadata={op_name="jit(f)/add"}',
        '  %jvp_jit__rows.2 = f32[6]{0} call(%a), metadata={op_name="jit(f)/Conv_1"}',
        '  %loop.3 = (f32[6]{0}, s32[]) while(%a), metadata={op_name="jit(f)/while"}',
        '  %pair.4 = (f32[6]{0}, s32[]) fusion(%a), metadata={op_name="jit(f)/sort"}',
    ]
    found = trace.instructions("\n".join(lines))
    assert found == {"add.1": "jit(f)/add", "pair.4": "jit(f)/sort"}


def test_time_is_shared_out_by_layer_and_direction():
    """Of 8 ms known, 6 are convolution 2 backward; what is not in the program does not count."""
    sources = {"a": "jit(f)/transpose(jvp(ConvNet))/Conv_1/add", "b": "jit(f)/jvp(ConvNet)/max"}
    found = trace.by(trace.group, {"b": 2.0, "a": 6.0, "while.1": 90.0}, sources)
    assert found == [("Conv 2, backward", 0.75), ("ReLU and pooling, forward", 0.25)]


@pytest.mark.parametrize("wrong", ["--part nonsense", "--shape svhn", "--ipc 0", "--epochs -1"])
def test_a_trace_of_nothing_is_refused_in_one_line(wrong, capsys):
    flag, value = wrong.split()
    assert trace.main([flag, value]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert flag in line
    assert value in line


@pytest.fixture
def no_cache():
    """A program from the cache has the names of the source that it was first compiled from."""
    jax.config.update("jax_enable_compilation_cache", False)
    yield
    jax.config.update("jax_enable_compilation_cache", True)


@pytest.mark.slow
def test_a_trace_shows_phases_and_layers(no_cache, capsys):
    settings = ["--part", "iteration", "--ipc", "2", "--batch-real", "3"]
    assert trace.main(settings) == 0
    shown = capsys.readouterr().out
    phases = trace.phase_flops(Case("iteration", "mnist", 2))
    assert all(f"| {name} |" in shown for name in [*phases, "draw", "Conv 2, backward"]), shown
