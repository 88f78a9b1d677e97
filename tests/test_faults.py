"""Small forms of the fault and fuzz tests; and bombs, pickles, and a disk that is full."""

import io
import subprocess
import sys
import zipfile

import jax
import numpy as np
import pytest
from command_line import SMALL, assert_refused, gm_jax, results

from experiments import faults, fuzz
from gm_jax.cli.export import folder_names
from gm_jax.data import archives
from gm_jax.storage import checkpoints


@pytest.fixture(autouse=True)
def compiled_quickly(monkeypatch):
    """Other processes compile as conftest.py makes this one: else they are other programs."""
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", jax.config.jax_compilation_cache_dir)
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")


def test_killed_runs_end_as_unbroken_ones(capsys):
    """One kill anywhere, one in a checkpoint; `python -m experiments.faults` does 20."""
    assert faults.main(["--kills", "2"]) == 0
    assert "2 ended equal to the unbroken run in every byte" in capsys.readouterr().out


def test_bad_files_end_in_one_line(capsys):
    assert fuzz.main(["--examples", "10"]) == 0
    shown = capsys.readouterr().out
    assert ", 0 faults" in shown
    assert shown.count("| 10 |") >= 11


def test_the_fuzz_test_would_see_a_fault(tmp_path):
    """Readers that crash, say two lines, or take what is bad."""

    def two_lines(folder):
        raise fuzz.UserError("one\ntwo")

    for read, words in (
        (lambda folder: 1 / 0, "ZeroDivisionError"),
        (two_lines, "not one line"),
        (lambda folder: "bad", "taken though it is bad"),
    ):
        kind = fuzz.Kind(fuzz.JSON, lambda folder, drawn: None, read, lambda found: False)
        count = fuzz.tried(kind, tmp_path, 3, 0)
        assert words in count.faults[0]
        assert (count.refused, count.valid) == (0, 0)


def bomb(path, size):
    """An .npz whose `images` are that many zeros, compressed a thousandfold."""
    header = io.BytesIO()
    shape = {"descr": "|u1", "fortran_order": False, "shape": (size // 100, 10, 10)}
    np.lib.format.write_array_header_1_0(header, shape)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", header.getvalue() + bytes(size))


def test_a_bomb_is_refused_before_it_is_expanded(tmp_path, monkeypatch):
    """20 MB of zeros in 20 kB, where there is memory for 16: nothing is read."""
    bomb(tmp_path / "bomb.npz", 20_000_000)
    assert (tmp_path / "bomb.npz").stat().st_size < 30_000
    monkeypatch.setattr(archives, "memory_size", lambda: 32_000_000)
    monkeypatch.setattr(np, "load", lambda *_, **__: pytest.fail("it was read"))
    command = ["condense", "--dataset", tmp_path / "bomb.npz", "--out", tmp_path / "run"]
    assert_refused(gm_jax(*command), "bomb.npz", "would expand to", "memory")


def test_sizes_that_only_multiply_are_refused(tmp_path, monkeypatch):
    """2,000 classes of one image but for one of 2,000: padded, 4 million images of 64 bytes."""
    labels = np.concatenate([np.arange(2000), np.zeros(1999, int)])
    images = np.zeros((len(labels), 8, 8), np.uint8)
    np.savez(tmp_path / "own.npz", images=images, labels=labels)
    monkeypatch.setattr(images, "memory_size", lambda: 2 * 10**8)
    command = ["condense", "--dataset", tmp_path / "own.npz", "--out", tmp_path / "run"]
    assert_refused(gm_jax(*command), "2000 classes padded to", "memory")
    rates = [str(0.001 * n) for n in range(1, 1100)]
    many = ["--seeds", 1000, "--image-lr", *rates, "--out", tmp_path / "run"]
    assert_refused(gm_jax("condense", *many), "more than 1000000 sets")
    deep = ["--depth", 101, "--pooling", "none", "--out", tmp_path / "run"]
    assert_refused(gm_jax("condense", *deep), "--depth 101: must be 1 to 100")


def test_nothing_pickled_is_executed(tmp_path):
    class Trap:
        def __reduce__(self):
            return open, (str(tmp_path / "sprung"), "w")

    np.savez(tmp_path / "own.npz", images=np.array([Trap()], object), labels=np.zeros(1, int))
    command = ["condense", "--dataset", tmp_path / "own.npz", "--out", tmp_path / "run"]
    assert_refused(gm_jax(*command), "own.npz cannot be read as an .npz of plain arrays")
    assert not (tmp_path / "sprung").exists()


def test_names_of_classes_become_names_of_folders():
    names = ["cat", "..", "a/b", "CAT", "", "c:d", "x" * 300, " dog "]
    found = folder_names(names)
    assert found == ["cat", "1_", "2_a_b", "3_CAT", "4_", "5_c_d", "6_" + "x" * 100, "dog"]


FULL = """
import subprocess, sys
folder, *command = sys.argv[1:]
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=230k", "tmpfs", folder], check=True)
done = subprocess.run([sys.executable, "-m", "gm_jax", *command], capture_output=True, text=True)
subprocess.run(["cp", "-r", folder + "/run", folder + "-kept"], check=True)
print(done.stdout, end="")
print(done.stderr, end="", file=sys.stderr)
sys.exit(done.returncode)
"""


def test_a_full_disk_leaves_a_run_that_can_be_resumed(tmp_path):
    """On a disk of 230 kB, where a namespace of its own can be had; see also test_runs.py."""
    if subprocess.run(["unshare", "-rm", "true"], check=False).returncode:
        pytest.skip("no mount namespaces here; the limit on file sizes in test_runs.py stands in")
    folder = tmp_path / "disk"
    folder.mkdir()
    longer = [*SMALL, "--iterations", 100, "--checkpoint-every", 1]
    command = ["condense", *longer, "--out", folder / "run"]
    code = [sys.executable, "-c", FULL, str(folder), *map(str, command)]
    done = subprocess.run(["unshare", "-rm", *code], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    last = done.stderr.splitlines()[-1]
    assert "cannot be written: " in last
    assert "space" in last
    assert "Traceback" not in done.stderr
    kept = tmp_path / "disk-kept"
    saved = checkpoints.numbers(kept)
    assert f"{saved[-1]} iterations are kept" in last
    assert gm_jax("condense", *longer, "--out", kept, "--resume")[0] == 0
    assert gm_jax("condense", *longer, "--out", tmp_path / "unbroken")[0] == 0
    assert results(kept) == results(tmp_path / "unbroken")
