"""Compiling for a TPU slice that is not there; needs the extra `tpu`."""

import importlib.util

import pytest

from experiments import topology

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("libtpu") is None, reason="libtpu is for Linux on x86-64 alone"
    ),
]

SMALL = (
    "--dataset-shape 8x8x1 --images 100 --ipc 1 --width 4 --depth 1 --norm none --batch-real 8 "
    "--outer-steps 2 --inner-epochs 2 --topology v5e:2x4"
).split()


def test_sets_need_no_collective_and_classes_the_few_that_are_named(capsys):
    """Eight sets on eight chips; then two chips for the classes of one."""
    assert topology.main([*SMALL, "--sets", "8"]) == 0
    shown = capsys.readouterr().out
    assert "8 devices, sets x classes = 8 x 1" in shown
    assert "of 16,384 MiB" in shown
    assert "collectives: 0" in shown
    assert topology.main([*SMALL, "--class-devices", "2"]) == 0
    shown = capsys.readouterr().out
    assert "2 devices, sets x classes = 1 x 2" in shown
    assert "all-reduce in match" in shown
    assert "signals" not in shown  # each device computes its own
    assert "pullback" not in shown


def test_what_does_not_fit_is_status_1_and_what_is_wrong_2(capsys):
    """Thirty gigabytes of real images on chips of sixteen; a slice and a shape that are none."""
    large = [*SMALL, "--dataset-shape", "32x32x3", "--images", "1000000"]
    assert topology.main(large) == 1
    assert "does not fit v5e:2x4" in capsys.readouterr().err
    for words, said in (
        (["--topology", "v9:1"], "--topology v9:1"),
        (["--dataset-shape", "32x32"], "--dataset-shape 32x32"),
        (["--class-devices", "3"], "--class-devices 3"),
        (["--network", "vgg11", "--width", "128", "--depth", "3"], "vgg11"),
        (["--dataset", "digits"], "--dataset has no meaning here"),
        (["--sets", "2", "--seeds", "8"], "--sets and --seeds: choose one"),
        (["--start", "real", "--ipc", "101"], "--ipc 101: at most 100"),
    ):
        assert topology.main([*SMALL, *words]) == 2
        assert said in capsys.readouterr().err
