"""Data sets on disk: the same images, draws and runs as in memory; damaged ones are refused."""

import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from command_line import SMALL, assert_refused, gm_jax, results
from PIL import Image

from gm_jax.data import prepared
from gm_jax.data.drawing import draw_classes, draw_mixed
from gm_jax.data.images import by_class
from gm_jax.data.loading import load
from gm_jax.errors import UserError
from gm_jax.storage import provenance

KEY = jax.random.key(2)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """The digits, prepared by the command."""
    folder = tmp_path_factory.mktemp("prepared") / "digits"
    status, out, err = gm_jax("prepare", "digits", "--out", folder)
    assert (status, err) == (0, "")
    assert "1,400 images of 10 classes, 8x8x1" in out
    return folder


def test_a_prepared_set_is_the_set(digits):
    """Values, names, statistics and digests; the images stay on disk."""
    ours, theirs = load(str(digits)), load("digits")
    assert isinstance(ours.train.images, np.memmap)
    for a, b in zip(ours.train[:4], theirs.train[:4]):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(ours.test_images, theirs.test_images)
    np.testing.assert_array_equal(ours.test_labels, theirs.test_labels)
    assert ours.class_names == theirs.class_names
    assert provenance.data(ours) == provenance.data(theirs)


def test_draws_from_disk_are_those_from_a_device(digits):
    ours, theirs = load(str(digits)).train, load("digits").train
    for draw, count in ((draw_classes, 7), (draw_classes, 200), (draw_mixed, 30)):
        jax.tree.map(
            np.testing.assert_array_equal, draw(KEY, ours, count), draw(KEY, theirs, count)
        )


@pytest.mark.slow
@pytest.mark.parametrize("start", ["noise", "real"])
def test_a_run_from_disk_is_the_run_from_memory(digits, tmp_path, start):
    words = [*SMALL, "--start", start]
    words.remove("digits")
    at = words.index("--dataset") + 1
    for name, dataset in (("memory", "digits"), ("disk", digits)):
        given = [*words[:at], dataset, *words[at:]]
        assert gm_jax("condense", *given, "--out", tmp_path / name)[0] == 0
    assert (
        results(tmp_path / "disk")["metrics.jsonl"] == results(tmp_path / "memory")["metrics.jsonl"]
    )
    ours, theirs = (np.load(tmp_path / n / "synthetic.npz") for n in ("disk", "memory"))
    np.testing.assert_array_equal(ours["images"], theirs["images"])
    assert gm_jax("evaluate", tmp_path / "disk", "--count", 1, "--epochs", 1)[0] == 0


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_pictures_are_written_class_by_class(tmp_path, mode):
    """What is prepared of a folder is what is loaded of it, statistics to rounding."""
    pixels = np.random.default_rng(0).integers(0, 256, (3, 7, 5, 5, 3), np.uint8)
    for label, images in enumerate(pixels):
        (tmp_path / "pictures" / f"class{label}").mkdir(parents=True)
        for number, image in enumerate(images[: 5 + label]):
            path = tmp_path / "pictures" / f"class{label}" / f"{number}.png"
            Image.fromarray(image).convert(mode).save(path)
    source = tmp_path / "pictures"
    assert gm_jax("prepare", source, "--out", tmp_path / "set", "--image-size", 6)[0] == 0
    ours, theirs = load(str(tmp_path / "set")), load(str(source), 6)
    assert ours.image_shape == (6, 6, 3 if mode == "RGB" else 1)
    np.testing.assert_array_equal(ours.train.images, theirs.train.images)
    np.testing.assert_array_equal(ours.train.counts, [4, 5, 6])
    np.testing.assert_array_equal(ours.test_images, theirs.test_images)
    np.testing.assert_allclose(ours.train.mean, theirs.train.mean, rtol=1e-6)
    np.testing.assert_allclose(ours.train.std, theirs.train.std, rtol=1e-6)


def test_measured_statistics_are_those_of_the_pixels(tmp_path):
    """Of 3 and 1 images: the padding does not count."""
    pixels = np.random.default_rng(1).integers(0, 256, (4, 2, 3, 1), np.uint8)
    rows = [pixels[:3], pixels[3:]]
    test = pixels[:1], np.zeros(1, np.int32)
    source = prepared.Source("noise", ("a", "b"), (3, 1), lambda c: rows[c], *test)
    prepared.write(tmp_path / "set", source)
    found = prepared.read(tmp_path / "set").train
    expected = by_class(pixels, np.array([0, 0, 0, 1]), 2)
    np.testing.assert_array_equal(found.mean, expected.mean)
    np.testing.assert_array_equal(found.std, expected.std)
    np.testing.assert_allclose(found.mean, (pixels / 255).mean(), rtol=1e-6)
    np.testing.assert_allclose(found.std, (pixels / 255).std(), rtol=1e-6)
    np.testing.assert_array_equal(found.images, expected.images)


def test_only_what_a_killed_process_left_is_deleted(tmp_path):
    """Another set's draft, and this one's by a process that lives, are not ours."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    others = [f".set.v2.{dead.pid}.draft", f".set.{os.getppid()}.draft"]
    ours = [f".set.{number}.draft" for number in (dead.pid, os.getpid(), 10**30)]
    for name in (*others, *ours):
        (tmp_path / name).mkdir()
    prepared.write(tmp_path / "set", prepared.of_dataset(load("digits")))
    assert {path.name for path in tmp_path.iterdir()} == {"set", *others}


@pytest.mark.slow
def test_what_is_not_as_it_was_is_refused(digits, tmp_path):
    """Files cut off, of another shape or version; nothing is overwritten or half-written."""
    for name, spoil in (
        ("train.npy", lambda path: path.write_bytes(path.read_bytes()[:-1])),
        ("train.npy", lambda path: np.save(path, np.zeros((10, 140, 8, 8), np.uint8))),
        ("test_labels.npy", lambda path: np.save(path, np.full(397, 10, np.int32))),
        ("test_images.npy", lambda path: path.unlink()),
        ("manifest.json", lambda path: path.write_text("gm_jax prepared data set")),
        ("manifest.json", lambda path: _change(path, counts=[1] * 10)),
        ("manifest.json", lambda path: _change(path, format="gm_jax prepared data set, 9")),
    ):
        folder = tmp_path / "set"
        prepared.write(folder, prepared.of_dataset(load("digits")))
        spoil(folder / name)
        assert_refused(
            gm_jax("condense", *SMALL, "--dataset", folder, "--out", tmp_path / "x"), "set"
        )
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
    assert_refused(gm_jax("prepare", "digits", "--out", digits), "exists")
    assert_refused(gm_jax("prepare", digits, "--out", tmp_path / "again"), "prepared already")
    assert_refused(gm_jax("prepare", "dogs", "--out", tmp_path / "dogs"), "dogs")
    short = prepared.of_dataset(load("digits"))._replace(
        rows=lambda c: np.zeros((1, 8, 8, 1), np.uint8)
    )
    with pytest.raises(UserError, match="class 0"):
        prepared.write(tmp_path / "short", short)
    assert list(tmp_path.iterdir()) == []


def _change(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
