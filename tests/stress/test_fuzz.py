"""Bad files are refused in one line: damaged and made-up ones, bombs, pickles."""

import io
import zipfile

import numpy as np
import pytest
from command_line import assert_refused, gm_jax

from gm_jax.data import archives
from gm_jax.data import images as data_images
from gm_jax.errors import UserError
from tests.stress import fuzz


@pytest.mark.slow
def test_bad_files_end_in_one_line(capsys):
    """`make fuzz` tries 500 of each kind."""
    assert fuzz.main(["--examples", "5"]) == 0
    shown = capsys.readouterr().out
    assert ", 0 faults" in shown
    assert shown.count("| 5 |") >= 13


def _fails(folder):
    return 1 / 0


def _two_lines(folder):
    raise UserError("one\ntwo")


@pytest.mark.parametrize(
    ("read", "words"),
    [
        (_fails, "ZeroDivisionError"),
        (_two_lines, "not one line"),
        (lambda folder: "bad", "accepted though it is bad"),
    ],
)
def test_the_fuzz_test_would_see_a_fault(read, words, tmp_path):
    kind = fuzz.Kind(fuzz.JSON, lambda folder, drawn: None, read, lambda found: False)
    outcomes = fuzz.try_kind(kind, tmp_path, 3, 0)
    assert words in outcomes.faults[0]
    assert (outcomes.refused, outcomes.valid) == (0, 0)


def bomb(path, size):
    """An .npz whose `images` are that many zeros, compressed a thousandfold."""
    header = io.BytesIO()
    shape = {"descr": "|u1", "fortran_order": False, "shape": (size // 100, 10, 10)}
    np.lib.format.write_array_header_1_0(header, shape)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", header.getvalue() + bytes(size))


def test_a_bomb_is_refused_before_it_is_expanded(tmp_path, monkeypatch):
    """20 MB of zeros in 20 kB, with 16 MB of memory allowed: nothing is read."""
    bomb(tmp_path / "bomb.npz", 20_000_000)
    assert (tmp_path / "bomb.npz").stat().st_size < 30_000
    monkeypatch.setattr(archives, "memory_size", lambda: 32_000_000)
    monkeypatch.setattr(np, "load", lambda *_, **__: pytest.fail("it was read"))
    command = ["condense", "--dataset", tmp_path / "bomb.npz", "--out", tmp_path / "run"]
    assert_refused(gm_jax(*command), "bomb.npz", "memory")


def test_classes_that_would_be_padded_beyond_memory_are_refused(tmp_path, monkeypatch):
    """2,000 classes of one image but for one of 2,000: padded, 4 million images of 64 bytes."""
    labels = np.concatenate([np.arange(2000), np.zeros(1999, int)])
    np.savez(tmp_path / "own.npz", images=np.zeros((len(labels), 8, 8), np.uint8), labels=labels)
    monkeypatch.setattr(data_images, "memory_size", lambda: 2 * 10**8)
    command = ["condense", "--dataset", tmp_path / "own.npz", "--out", tmp_path / "run"]
    assert_refused(gm_jax(*command), "2000 classes", "memory")


def test_settings_that_multiply_beyond_reason_are_refused(tmp_path):
    rates = [str(0.001 * n) for n in range(1, 1100)]
    many = ["--seeds", 1000, "--image-lr", *rates, "--out", tmp_path / "run"]
    assert_refused(gm_jax("condense", *many), "1000000 sets")
    deep = ["--depth", 101, "--pooling", "none", "--out", tmp_path / "run"]
    assert_refused(gm_jax("condense", *deep), "--depth 101", "1 to 100")


def test_nothing_pickled_is_executed(tmp_path):
    class Trap:
        def __reduce__(self):
            return open, (str(tmp_path / "sprung"), "w")

    np.savez(tmp_path / "own.npz", images=np.array([Trap()], object), labels=np.zeros(1, int))
    command = ["condense", "--dataset", tmp_path / "own.npz", "--out", tmp_path / "run"]
    assert_refused(gm_jax(*command), "own.npz", ".npz of plain arrays")
    assert not (tmp_path / "sprung").exists()
