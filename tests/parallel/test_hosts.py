"""Several processes of this machine, each as a host of its own: real ones, over gloo."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from command_line import SMALL
from compiling import OLDER_EMITTERS

from gm_jax.storage import checkpoints

pytestmark = pytest.mark.slow

RUN = ("condense", *SMALL, "--seeds", "3", "--checkpoint-every", "1")
END_SECONDS = 120
"""A run of this size never takes so long to end: it hangs."""


def command(*words):
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": str(root), "JAX_NUM_CPU_DEVICES": "1"}
    # XLA's default emitters: with the older ones, one set and several differ in their last bits.
    flags = environment.get("XLA_FLAGS", "").split()
    environment["XLA_FLAGS"] = " ".join(flag for flag in flags if flag != OLDER_EMITTERS)
    return subprocess.Popen(
        [sys.executable, "-m", "gm_jax", *map(str, words)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def processes(count, *words, each=()):
    """That many processes of one run; `each` has words of single ones."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    joined = ("--distributed", "--coordinator", f"localhost:{port}", "--processes", count)
    each = each or ((),) * count
    return [command(*words, *joined, "--process", n, *each[n]) for n in range(count)]


def ends(started):
    """(exit status, standard output, standard error) of each."""
    try:
        return [(p.communicate(timeout=END_SECONDS), p.returncode) for p in started]
    finally:
        for process in started:
            process.kill()


def logged(folder):
    """What a run logs but the clock."""
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def assert_same_run(folder, other):
    """Every array and every logged number; the number of devices stands in both records."""
    ours, theirs = (np.load(f / "synthetic.npz") for f in (folder, other))
    for name in set(ours) - {"config"}:
        np.testing.assert_array_equal(ours[name], theirs[name])
    assert logged(folder) == logged(other)
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        path.name for path in other.iterdir()
    )


def wait_for_checkpoint(folder, started):
    for _ in range(10 * END_SECONDS):
        if checkpoints.numbers(folder) or any(p.poll() is not None for p in started):
            return
        time.sleep(0.1)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The run of one process."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    process = command(*RUN, "--out", folder)
    assert process.wait(END_SECONDS) == 0
    return folder


@pytest.mark.parametrize("count", [2, 4])
def test_the_run_of_many_processes_is_that_of_one(alone, tmp_path, count):
    """Three sets on 2 and on 4 processes; only the first one prints, and writes."""
    folder = tmp_path / "run"
    for number, ((out, err), status) in enumerate(ends(processes(count, *RUN, "--out", folder))):
        assert status == 0, err
        assert ("condensed" in out) == (number == 0)
        assert ("memory" in err) == (number == 0)
    assert_same_run(folder, alone)


def test_classes_over_processes(alone, tmp_path):
    """Each process has half of the classes: the same epochs, and losses but for rounding."""
    folder = tmp_path / "run"
    for (_, err), status in ends(processes(2, *RUN, "--class-devices", 2, "--out", folder)):
        assert status == 0, err
    for ours, theirs in zip(logged(folder), logged(alone), strict=True):
        assert ours["inner_epochs"] == theirs["inner_epochs"]
        np.testing.assert_allclose(ours["loss"], theirs["loss"], rtol=1e-5)


def test_a_signal_to_one_stops_all_and_one_process_goes_on(alone, tmp_path):
    """At the same iteration, with one checkpoint."""
    folder = tmp_path / "run"
    longer = [*RUN, "--iterations", 2000]
    started = processes(2, *longer, "--out", folder)
    wait_for_checkpoint(folder, started)
    started[1].send_signal(signal.SIGTERM)
    found = ends(started)
    assert [status for _, status in found] == [143, 143]
    number = checkpoints.numbers(folder)[-1]
    for (_, err), _ in found:
        assert f"stopped by SIGTERM after iteration {number} of 2000" in err
    again = command(*longer, "--out", folder, "--resume")
    wait_seconds = time.monotonic() + END_SECONDS
    while checkpoints.numbers(folder)[-1] <= number and time.monotonic() < wait_seconds:
        time.sleep(0.1)
    again.send_signal(signal.SIGTERM)
    (_, err), status = ends([again])[0]
    assert status == 143
    assert f"resumes at iteration {number} of 2000" in err
    assert logged(folder)[: len(logged(alone))] == logged(alone)


@pytest.mark.parametrize("killed", [0, 1])
def test_the_death_of_one_ends_all_and_the_run_goes_on(alone, tmp_path, killed):
    folder = tmp_path / "run"
    longer = [*RUN, "--iterations", 2000]
    started = processes(2, *longer, "--out", folder)
    wait_for_checkpoint(folder, started)
    started[killed].kill()
    began = time.monotonic()
    (_, err), status = ends(started)[1 - killed]
    assert time.monotonic() - began < 60
    # JAX itself may notice first that the coordinator is gone, says so, and aborts
    noticed = {1: "gm-jax: another process ended", -signal.SIGABRT: "another task died"}
    assert noticed[status] in err
    number = checkpoints.numbers(folder)[-1]
    again = processes(2, *longer, "--out", folder, "--resume")
    for _ in range(10 * END_SECONDS):
        if checkpoints.numbers(folder)[-1] > number:
            break
        time.sleep(0.1)
    again[0].send_signal(signal.SIGTERM)
    assert [status for _, status in ends(again)] == [143, 143]
    assert logged(folder)[: len(logged(alone))] == logged(alone)


def test_processes_with_other_settings_or_data_are_refused(tmp_path):
    pixels = np.arange(40 * 16, dtype=np.uint8).reshape(40, 4, 4)
    labels = np.arange(40) % 2
    for name, shift in (("one", 0), ("two", 1)):
        np.savez(tmp_path / f"{name}.npz", images=pixels + shift, labels=labels)
    small = "--ipc 1 --iterations 1 --batch-real 4 --network mlp".split()
    out = ("--out", tmp_path / "run")
    data = [("--dataset", tmp_path / f"{name}.npz") for name in ("one", "two")]
    for words, each, said in (
        (RUN, ((), ("--image-lr", "0.3")), "--image-lr"),
        (RUN, ((), ("--class-devices", "2")), "--class-devices"),
        (("condense", *small), data, "--dataset"),
    ):
        for (_, err), status in ends(processes(2, *words, *out, each=each)):
            assert status == 2
            assert said in err.splitlines()[-1]
    assert not (tmp_path / "run").exists()


def test_what_one_process_alone_refuses_ends_all(tmp_path):
    """The data of process 1 is not there."""
    np.savez(tmp_path / "data.npz", images=np.zeros((40, 4, 4), np.uint8), labels=np.arange(40) % 2)
    data = [("--dataset", tmp_path / name) for name in ("data.npz", "missing.npz")]
    words = ("condense", "--ipc", 1, "--network", "mlp", "--out", tmp_path / "run")
    (first, second) = ends(processes(2, *words, each=data))
    assert first[1] == second[1] == 2
    assert "process 1" in first[0][1]
    assert "missing.npz" in second[0][1]
    assert not (tmp_path / "run").exists()


def test_processes_that_classes_do_not_divide_are_refused(tmp_path):
    """Two devices for the classes of each set leave the third process without work."""
    out = ("--out", tmp_path / "run")
    for (_, err), status in ends(processes(3, *RUN, "--class-devices", 2, *out)):
        assert status == 2
        assert "--class-devices 2: must divide the 3 devices" in err
    assert not (tmp_path / "run").exists()


def test_without_a_coordinator_it_is_one_line(tmp_path):
    (_, err), status = ends([command(*RUN, "--out", tmp_path / "run", "--distributed")])[0]
    assert status == 2
    assert err.count("\n") == 1
    assert "--coordinator" in err
