"""Reports: what they say of a run, and what a real browser makes of them."""

import base64
import dataclasses
import io
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from command_line import SMALL, assert_refused, gm_jax
from PIL import Image

from gm_jax import Condensed, Config, load_condensed, recipe
from gm_jax.data.archives import read_npz
from gm_jax.data.images import denormalise
from gm_jax.report import pictures, run
from gm_jax.report.images import list_images
from gm_jax.storage import reading, snapshots
from gm_jax.variants import VariantRecord

RUN = ("condense", *SMALL, "--factor", "2", "--image-lr", "0.1", "0.2")
"""Four sets, of two seeds and two learning rates, of learned images that stand for four."""

ANOTHER_SEED = json.dumps(
    {"iteration": 0, "seed": 3, "loss": 1, "intra": 1, "inter": 0, "inner_epochs": [], "seconds": 1}
)

EVALUATE = ("--count", "2", "--epochs", "2")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a run that is evaluated."""
    folder = tmp_path_factory.mktemp("report") / "run"
    assert gm_jax(*RUN, "--iterations", 3, "--out", folder)[0] == 0
    assert gm_jax("evaluate", folder, *EVALUATE)[0] == 0
    return folder


@pytest.fixture
def copy(finished, tmp_path):
    """The same, in a folder that may be changed."""
    return shutil.copytree(finished, tmp_path / "run")


# --- snapshots ------------------------------------------------------------------------------------


def test_a_snapshot_is_the_state_after_its_iteration(finished, tmp_path):
    """The one after 2 of 3 iterations is the end of a run of 2, and so that of the run itself."""
    found = snapshots.read(finished)
    assert found.iterations.tolist() == [1, 2]
    assert found.images.shape == (2, 10, 8, 8, 1)
    assert gm_jax(*RUN, "--iterations", 2, "--out", tmp_path / "two")[0] == 0
    two = load_condensed(tmp_path / "two")
    assert np.array_equal(found.images[1], denormalise(two.learned[0, :, 0], two.mean, two.std))


def test_a_snapshot_that_is_taken_again_replaces_those_after_it(copy):
    condensed, before = load_condensed(copy), snapshots.read(copy)
    snapshots.add(copy, 1, snapshots.first_of_each(condensed))
    found = snapshots.read(copy)
    assert found.iterations.tolist() == [1]
    assert not np.array_equal(found.images[0], before.images[0])


def test_no_snapshot_is_needed(copy):
    (copy / "snapshots.npz").unlink()
    assert run.gather(copy).along is None


# --- what is said ---------------------------------------------------------------------------------


def test_the_report_says_what_the_files_hold(finished):
    found = run.gather(finished)
    results = json.loads((finished / "evaluation.json").read_text())["convnet"]
    assert found.title == "digits in 2 images a class"
    rows = {one.trained_on: one for one in found.accuracies}
    assert set(rows) == set(results) - {"protocol"}
    for kind, row in rows.items():
        assert row.accuracy == f"{results[kind]['mean']:.1f}"
        assert row.size == "2 x 2"
    assert [of.name for of in found.sets][1] == "Set 1 (seed 7, image_lr 0.2)"
    assert found.along.iterations == [1, 2, 3]
    assert [len(pictures) for _, pictures in found.along.rows] == [3] * 10
    metrics = reading.read_metrics(finished)
    last = np.mean([row["loss"] for row in metrics if row["iteration"] == 2])
    assert found.course.rows[-1][:2] == ["3", f"{last:.4g}"]
    assert ("--ipc", "2", "10") in found.settings
    assert ("--scheme", "multi-level", "") in found.settings
    assert found.more_sets == ""


def test_the_facts_are_those_of_the_files(copy):
    """Of 4 sets, two seeds with two rates each; 90 s are 1.5 minutes."""
    rows = reading.read_metrics(copy)
    text = "".join(json.dumps(row | {"seconds": 90.0}) + "\n" for row in rows)
    (copy / "metrics.jsonl").write_text(text)
    results = json.loads((copy / "evaluation.json").read_text())
    scores = {"hlr": 0.1, "ior": 0.2, "lrs": 0.3, "ars": 0.4}
    results["convnet"]["condensed, image_lr 0.1"] |= {"mean": 81.25, "std": 1.5, "scores": scores}
    (copy / "evaluation.json").write_text(json.dumps(results))
    about = json.loads((copy / "config.json").read_text())
    ran = {name: about[name] for name in ("versions", "platform", "commit")}
    ran["platform"] = ran["platform"] | {"device": "another"}
    about["continued"] = [{"iteration": 2} | ran]
    (copy / "config.json").write_text(json.dumps(about))
    found = run.gather(copy)
    count, device = sum(about["data"]["counts"]), about["platform"]["device"]
    assert found.facts[:3] == [
        f"20 learned images stand for {count:,} real ones of 10 classes.",
        "Condensed by the paper's method, with other settings: 3 iterations, 4 sets.",
        f"The iterations took 1.5 minutes on {device} and another, compilation included.",
    ]
    told = "A fresh convnet trained on condensed images (image_lr 0.1) reaches 81.2 ± 1.5 %."
    assert told in found.facts
    assert found.scores == [
        ("convnet, condensed, image_lr 0.1", "HLR 0.100, IOR 0.200, LRS 0.300, ARS 0.400")
    ]
    resumed = dict(found.provenance)["resumed at iteration 2 with"]
    assert json.loads(resumed)["device"] == "another"


@pytest.mark.parametrize(
    ("name", "changes", "variant", "words"),
    [
        (None, {"distance": "cosine+l2"}, None, "the paper's method, with other settings"),
        ("dc", {}, None, "the recipe dc"),
        ("dc", {"iterations": 3, "seeds": 2, "microbatch": 8}, None, "the recipe dc"),
        ("dc", {"outer_steps": 3}, None, "the recipe dc, with other settings"),
        ("of later", {}, None, "the recipe of later"),
        ("dc", {}, "my:own", "the variant my:own of the recipe dc"),
    ],
)
def test_the_method_is_named(copy, name, changes, variant, words):
    """The settings are those of dc, but for the changes."""
    condensed, about = load_condensed(copy), reading.read_about(copy) | {"recipe": name}
    config = dataclasses.replace(recipe("dc", "digits", 2), **changes)
    record = None if variant is None else VariantRecord(variant, None)
    assert run._method(condensed._replace(config=config, variant=record), about) == words


@pytest.mark.slow
def test_the_command_makes_the_same_run(finished, tmp_path):
    words = run.gather(finished).command.split()
    assert words[:2] == ["gm-jax", "condense"]
    at = words.index("--out")
    assert gm_jax(*words[1:at], "--out", tmp_path / "again")[0] == 0
    for name in ("synthetic.npz", "snapshots.npz"):
        one, two = (read_npz(folder / name) for folder in (finished, tmp_path / "again"))
        assert all(np.array_equal(one[key], two[key]) for key in one)


def test_published_numbers_stand_beside_ours(copy):
    """Only of the same data set and number of images: IDC's 81.0 for Fashion-MNIST at 1."""
    results = reading.read_results(copy)
    config = load_condensed(copy).config
    fashion = dataclasses.replace(config, dataset="fashion_mnist", ipc=1)
    texts = [
        (one.trained_on, one.accuracy, one.spread) for one in run._accuracies(fashion, results)
    ]
    assert texts[-1] == ("IDC, published", "81.0", "")
    assert ("DC, published", "70.5", "0.6") in texts
    assert not any("published" in one.trained_on for one in run._accuracies(config, results))


def test_a_run_that_is_not_evaluated_says_how_to(copy):
    (copy / "evaluation.json").unlink()
    status, out, _ = gm_jax("report", copy)
    assert (status, out.strip()) == (0, str(copy / "report.html"))
    page = (copy / "report.html").read_text()
    assert f"gm-jax evaluate {copy}" in page


def test_results_that_are_new_are_not_those_of_the_report(copy):
    """`evaluate` deletes the report of the results before."""
    assert gm_jax("report", copy)[0] == 0
    assert gm_jax("evaluate", copy, *EVALUATE)[0] == 0
    assert not (copy / "report.html").exists()


def test_sets_that_diverged_are_said(copy):
    arrays = read_npz(copy / "synthetic.npz")
    arrays["iterations"][[0, 2]] = 1
    np.savez_compressed(copy / "synthetic.npz", **arrays)
    found = run.gather(copy)
    assert "4 sets, of which 2 diverged" in found.facts[1]
    assert [of.name[:5] for of in found.sets] == ["Set 1", "Set 3"]
    assert found.more_sets.count("diverged at iteration 1") == 2
    assert found.along is None
    arrays["iterations"][:] = 1
    np.savez_compressed(copy / "synthetic.npz", **arrays)
    assert run.gather(copy).sets == []


def test_a_page_is_of_some_megabytes_whatever_the_images():
    """200 classes x 50 images of 64x64x3 in nine sets; of each at least an image of a class."""
    shape = (9, 200 * 50, 64, 64, 3)
    images = np.broadcast_to(np.float32(0), shape)
    names, config = tuple(map(str, range(200))), Config(ipc=50, seeds=9, iterations=3)
    labels = np.repeat(np.arange(200, dtype=np.int32), 50)
    mean, std = np.zeros(3, np.float32), np.ones(3, np.float32)
    done = np.full(9, 3, np.int32)
    condensed = Condensed(images, labels, mean, std, names, done, config)
    found = list_images(condensed)
    # half of 8,000,000 values are 325 images of 12,288 values, an eighth of that is 40
    assert [len(of.classes) for of in found] == [200] + [40] * 7
    assert found[0].note == "The first 1 of 50 images of each class."
    assert found[1].note == "The first 40 of 200 classes. The first 1 of 50 images of each class."


def test_a_strip_keeps_every_pixel():
    """Twelve images of 2x2 in rows of ten: 10 * 2 + 9 * 2 wide, 2 * 2 + 2 high, enlarged by 28."""
    images = np.arange(48, dtype=np.uint8).reshape(12, 2, 2, 1)
    strip = pictures.strip(images, "what")
    found = np.asarray(Image.open(io.BytesIO(base64.b64decode(strip.source.partition(",")[2]))))
    assert found.shape == (6, 38, 4)
    assert (strip.width, strip.height) == (38 * 28, 6 * 28)
    assert np.array_equal(found[4:, 4:6, 0], images[11, ..., 0])
    assert found[..., 3].sum() == 255 * 48  # all else can be seen through


def test_names_are_escaped(copy):
    """A class may be called anything."""
    path = copy / "synthetic.npz"
    arrays = read_npz(path)
    arrays["class_names"] = np.array(["<script>alert(1)</script>", *arrays["class_names"][1:]])
    np.savez_compressed(path, **arrays)
    assert gm_jax("report", copy)[0] == 0
    page = (copy / "report.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page


# --- mistakes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "contents"),
    [
        ("metrics.jsonl", '{"iteration": 0}\n'),
        ("metrics.jsonl", "{"),
        ("metrics.jsonl", ANOTHER_SEED),
        ("evaluation.json", "[]"),
        ("evaluation.json", '{"convnet": {"condensed": {"accuracies": "none"}}}'),
        ("snapshots.npz", "no archive"),
        ("config.json", "{}"),
    ],
)
def test_a_damaged_file_is_one_line(copy, name, contents):
    (copy / name).write_text(contents)
    assert_refused(gm_jax("report", copy), name)
    assert not (copy / "report.html").exists()


def test_snapshots_of_another_run_are_refused(copy):
    images = np.zeros((1, 3, 8, 8, 1), np.uint8)
    np.savez(copy / "snapshots.npz", iterations=np.array([1], np.int32), images=images)
    assert_refused(gm_jax("report", copy), "snapshots.npz", "other images")


def test_other_places_and_no_run_are_refused(copy, tmp_path):
    assert_refused(gm_jax("report", tmp_path), "synthetic.npz")
    assert_refused(gm_jax("report", copy / "synthetic.npz"), "whole run folder")
    assert_refused(gm_jax("report", copy, "--out", copy / "metrics.jsonl"), "metrics.jsonl")
    assert_refused(gm_jax("report", copy, "--out", tmp_path / "no" / "a.html"), "a.html")
    assert_refused(gm_jax("report", copy, "--out", "."), "--out .", "folder")


# --- in a browser ---------------------------------------------------------------------------------


CHECK = """
<script>
addEventListener("load", () => {
  const images = [...document.images];
  const found = {
    images: images.length,
    broken: images.filter(i => !i.complete || !i.naturalWidth || !i.alt).length,
    sideways: document.documentElement.scrollWidth - innerWidth,
    headings: [...document.querySelectorAll("h1, h2")].map(h => h.textContent),
    unnamed: document.querySelectorAll("[role=region]:not([aria-label])").length,
  };
  document.title = JSON.stringify(found);
});
</script>
"""


@pytest.mark.slow
@pytest.mark.parametrize("size", ["1200,900", "500,844"])
def test_a_browser_shows_all_of_it(finished, tmp_path, size):
    """In a headless Chromium, as wide as a desk's and about a phone's: no error, no image missing.

    Nothing is wider than the window, though the data set's name is.
    """
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    page = tmp_path / "report.html"
    assert gm_jax("report", finished, "--out", page)[0] == 0
    text = page.read_text().replace("digits in 2 images", f"{'a_long_name_' * 20} in 2 images")
    page.write_text(text.replace("</body>", CHECK + "</body>"))
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    command += [f"--window-size={size}", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    done = subprocess.run(
        [*command, page.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    assert "CONSOLE" not in done.stderr, done.stderr
    found = json.loads(re.search("<title>(.*)</title>", done.stdout)[1].replace("&quot;", '"'))
    # of each of four sets, 10 rows of learned and decoded; 10 x 3 along the way; two plots
    assert found["images"] == 4 * 10 * 2 + 10 * 3 + 2
    assert found["broken"] == 0
    assert found["sideways"] <= 0
    assert found["unnamed"] == 0
    assert found["headings"][1:] == [
        *("Images", "Along the way", "Accuracy", "Iterations", "Settings", "Provenance"),
    ]
