"""The command line as a user meets it: what it leaves behind, and what it says to mistakes."""

import json
import shutil
import subprocess
import sys
import typing
from pathlib import Path

import jax
import numpy as np
import pytest
from command_line import SMALL, assert_refused, gm_jax
from PIL import Image

from gm_jax.cli import main as cli
from gm_jax.cli import work as work_of_commands
from gm_jax.cli.export import folder_names
from gm_jax.config import Config, with_network
from gm_jax.core.parametrisation import multi_formation
from gm_jax.data.images import normalise
from gm_jax.data.loading import load
from gm_jax.evaluation.coresets import random_real
from gm_jax.storage import locking, reading, run_folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run folder, condensed, evaluated and reported on."""
    folder = tmp_path_factory.mktemp("runs") / "deep" / "run"
    assert gm_jax("condense", *SMALL, "--out", folder)[0] == 0
    status, out, _ = gm_jax("evaluate", folder, "--count", 2, "--epochs", 3)
    assert status == 0
    assert "convnet   condensed" in out
    assert "2 x 2" in out
    assert gm_jax("report", folder) == (0, f"{folder / 'report.html'}\n", "")
    return folder


@pytest.fixture
def copy(finished, tmp_path):
    """A run folder that a test may spoil."""
    folder = tmp_path / "copy"
    folder.mkdir()
    for name in run_folder.FILES:
        (folder / name).write_bytes((finished / name).read_bytes())
    return folder


@pytest.mark.slow
def test_a_sweep_is_a_set_for_each_value_and_says_which(tmp_path):
    """1 seed, 2 rates: two sets, evaluated apart; random real images once a seed."""
    out = tmp_path / "run"
    arguments = [*SMALL, "--seeds", 1, "--iterations", 1, "--image-lr", "0.1", "0.5"]
    status, _, err = gm_jax("condense", *arguments, "--out", out)
    assert status == 0
    assert "memory: " in err
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["image_lr"] for line in lines] == [0.1, 0.5]
    assert reading.load_condensed(out).config.image_lr == (0.1, 0.5)
    status, shown, _ = gm_jax("evaluate", out, "--count", 2, "--epochs", 1, "--chunk", 0)
    assert status == 0
    found = json.loads((out / "evaluation.json").read_text())["convnet"]
    kinds = ["condensed, image_lr 0.1", "condensed, image_lr 0.5", "random real"]
    assert [kind for kind in found if kind != "protocol"] == kinds
    for kind in kinds:
        assert np.shape(found[kind]["accuracies"]) == (1, 2)
        assert kind in shown


@pytest.mark.slow
def test_other_networks_are_trained_on_the_images(copy):
    """An architecture and a variant of ConvNet, each with its own rows."""
    names = ["mlp", "convnet:norm=none,depth=1"]
    status, out, err = gm_jax("evaluate", copy, "--count", 1, "--epochs", 1, "--networks", *names)
    assert status == 0, err
    found = json.loads((copy / "evaluation.json").read_text())
    assert list(found) == [*names, "ran"]
    for name in names:
        assert np.shape(found[name]["condensed"]["accuracies"]) == (2, 1)
        assert f"{name}  " in out
    kept = reading.load_condensed(copy).config
    variant = with_network(kept, names[1])
    assert (variant.norm, variant.depth, variant.width) == ("none", 1, kept.width)
    assert with_network(kept, "mlp").width == Config.width  # else it would be refused


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ("resnet19", ["'resnet19'", "resnet18"]),
        ("mlp:width=3", ["'mlp:width=3'", "convnet:OPTION"]),
        ("convnet:breadth=3", ["breadth", "width=..."]),
        ("convnet:width=wide", ["width must be a whole number"]),
        ("convnet:norm=what", ["'what'", "instance"]),
        ("vgg11", ["vgg11", "8x8x1"]),
    ],
)
def test_wrong_networks_are_one_line(finished, named, words):
    assert_refused(gm_jax("evaluate", finished, "--networks", named), *words)


# --- what a run leaves ----------------------------------------------------------------------------


def test_a_run_folder_holds_what_is_promised(finished):
    assert {p.name for p in finished.iterdir()} == {*run_folder.FILES, locking.LOCK}
    config = json.loads((finished / "config.json").read_text())
    assert config["settings"]["iterations"] == 2
    assert set(config["versions"]) >= {"python", "jax", "jaxlib", "flax", "optax", "gm_jax"}
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert [(line["iteration"], line["seed"]) for line in lines] == [(0, 7), (0, 8), (1, 7), (1, 8)]
    for line in lines:
        assert line["loss"] == pytest.approx(line["intra"] + line["inter"], rel=1e-5)
        assert len(line["inner_epochs"]) == 2
        assert line["inner_epochs"][-1] == 0
        assert line["seconds"] > 0
        assert "image_lr" not in line  # one value only: it stands in config.json
    with np.load(finished / "synthetic.npz") as file:
        assert file["images"].dtype == np.float32
        assert file["images"].shape == (2, 20, 8, 8, 1)
        assert file["labels"].tolist() == [c for c in range(10) for _ in range(2)]
        assert file["class_names"].tolist() == [str(c) for c in range(10)]
        assert json.loads(str(file["config"]))["settings"] == config["settings"]


def test_evaluation_json_holds_every_accuracy(finished):
    results = json.loads((finished / "evaluation.json").read_text())["convnet"]
    assert results["protocol"]["epochs"] == 3
    for kind in ("condensed", "random real"):
        accuracies = np.array(results[kind]["accuracies"])
        assert accuracies.shape == (2, 2)
        assert results[kind]["mean"] == pytest.approx(100 * accuracies.mean())
        assert results[kind]["std"] == pytest.approx(100 * accuracies.std())


def test_the_grid_shows_the_images_a_row_a_class(finished):
    synthetic = reading.load_condensed(finished)
    with Image.open(finished / "grid.png") as picture:
        assert picture.height > 10 * 8
    status, out, _ = gm_jax("show", finished, "--set", 1, "--out", finished.parent / "one.png")
    assert (status, out.strip()) == (0, str(finished.parent / "one.png"))
    assert len(synthetic.images) == 2


def test_export_writes_the_pixels_as_pngs_and_npz(finished, tmp_path):
    assert gm_jax("export", finished, "--out", tmp_path / "out")[0] == 0
    synthetic = reading.load_condensed(finished)
    with np.load(tmp_path / "out" / "images.npz") as file:
        pixels, labels = file["images"], file["labels"]
    assert pixels.shape == (2, 20, 8, 8, 1)
    # by hand: pixel = clip(round(255 (image * std + mean)))
    real = synthetic.images * synthetic.std + synthetic.mean
    assert np.array_equal(pixels, np.clip(np.round(real * 255), 0, 255).astype(np.uint8))
    for number, label in enumerate(labels):
        path = tmp_path / "out" / "set1" / str(label) / f"00{number % 2}.png"
        with Image.open(path) as picture:
            assert np.array_equal(np.asarray(picture), pixels[1, number, :, :, 0])


@pytest.mark.slow
def test_a_run_from_real_images_starts_there(tmp_path):
    """At a tiny learning rate the images stay the real ones: all of them are in the set."""
    arguments = [*SMALL, "--start", "real", "--image-lr", "1e-12", "--seeds", 1]
    assert gm_jax("condense", *arguments, "--out", tmp_path / "run")[0] == 0
    synthetic = reading.load_condensed(tmp_path / "run")
    train = load("digits").train
    normal = np.asarray(normalise(train.images, train.mean, train.std))
    for image, label in zip(synthetic.images[0], synthetic.labels):
        assert np.abs(normal[label] - image).max((1, 2, 3)).min() < 1e-4


def test_python_dash_m(tmp_path):
    command = [sys.executable, "-m", "gm_jax", "condense", "--dataset", "nope", "--out", "x"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("gm-jax: data set 'nope' is unknown: choose digits, mnist5k, ")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_help_names_every_setting_and_choice(capsys):
    with pytest.raises(SystemExit) as leave:
        cli.main(["condense", "--help"])
    assert leave.value.code == 0
    shown = capsys.readouterr().out
    for field in vars(Config()):
        assert "--" + field.replace("_", "-") in shown
    shown = "".join(shown.split()).replace("│", "")  # the box breaks lines within words
    hints = typing.get_type_hints(Config).values()
    choices = [name for hint in hints for name in typing.get_args(hint) if isinstance(name, str)]
    assert len(choices) > 30
    assert all(choice in shown for choice in choices)


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["--help"], "usage: gm-jax"),
        (["condense", "--ipc", "one", "--out", "x"], "gm-jax: "),
        (["condense", "--ipc", "0", "--out", "x"], "gm-jax: --ipc 0"),
    ],
)
def test_help_and_mistakes_do_not_wait_for_jax(arguments, shown):
    """JAX and what stands on it take more than a second to import, the rest a quarter of one."""
    code = (
        "import sys, gm_jax; from gm_jax.cli.main import main; assert gm_jax.__version__\n"
        "try: print(main(sys.argv[1:]))\n"
        "except SystemExit: pass\n"
        "print('jax' in sys.modules)"
    )
    command = [sys.executable, "-c", code, *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ran.stdout.endswith("False\n")
    assert (ran.stdout + ran.stderr).startswith(shown) or ran.stderr.startswith(shown)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_help_that_cannot_be_printed_is_one_line():
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "gm_jax", "condense", "--help"]
        ran = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert ran.stderr.startswith("gm-jax: ")
    assert ran.stderr.count("\n") == 1
    assert ran.returncode == 2


# --- mistakes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--dataset", "cifar11"], ["data set 'cifar11'", "digits, mnist5k"]),
        (["--scheme", "inner"], ["--scheme", "inner", "intra", "interleaved"]),
        (["--distance", "l3"], ["--distance", "l3", "cosine+l2"]),
        (["--network", "vit"], ["--network", "vit", "convnet"]),
        (["--step-rule", "never"], ["--step-rule", "never", "overfit"]),
        (["--norm", "spectral"], ["--norm", "spectral", "instance"]),
        (["--activation", "gelu"], ["--activation", "gelu", "relu"]),
        (["--pooling", "sum"], ["--pooling", "sum", "average"]),
        (["--start", "zeros"], ["--start", "zeros", "noise", "real"]),
        (["--ipc", "0"], ["--ipc 0", "1 to"]),
        (["--ipc", "141", "--start", "real"], ["--ipc 141", "140"]),
        (["--ipc", "two"], ["--ipc: must be a whole number, not 'two'"]),
        (["--cutmix", "two"], ["--cutmix: must be a number, not 'two'"]),
        (["--image-lr", "two"], ["--image-lr: not ['two']; ", "FLOAT"]),
        (["--iterations", "0"], ["--iterations 0", "1 to"]),
        (["--iterations", "-5"], ["--iterations -5", "1 to"]),
        (["--image-lr", "0"], ["--image-lr 0", "above 0"]),
        (["--image-lr", "0.1", "-1"], ["--image-lr -1", "above 0"]),
        (["--image-lr", "0.1", "0.2", "0.1"], ["--image-lr 0.1 0.2 0.1", "twice"]),
        (["--network-lr"], ["--network-lr", "give a value"]),
        (["--class-chunk", "-1"], ["--class-chunk -1", "0 to"]),
        (["--checkpoint-every", "-1"], ["--checkpoint-every -1", "0 to"]),
        (["--set-chunk", "-1"], ["--set-chunk -1", "0 to"]),
        (["--convolution", "fft"], ["fft", "winograd"]),
        (["--image-lr", "nan"], ["--image-lr nan", "number"]),
        (["--network-lr", "-0.1"], ["--network-lr -0.1", "above 0"]),
        (["--network-momentum", "1"], ["--network-momentum 1", "below 1"]),
        (["--batch-real", "0"], ["--batch-real 0", "1 to"]),
        (["--outer-steps", "0"], ["--outer-steps 0", "1 to"]),
        (["--inner-epochs", "-1"], ["--inner-epochs -1", "0 to"]),
        (["--inner-epochs", "5", "--step-rule", "schedule"], ["--inner-epochs", "schedule"]),
        (["--inner-epochs", "5", "--ipc", "1"], ["--inner-epochs", "one outer step"]),
        (["--outer-steps", "3000000000"], ["--outer-steps 3000000000", "1 to 1000000"]),
        (["--image-lr", "1e400"], ["--image-lr inf", "below 1e30"]),
        (["--inter-weight", "-1"], ["--inter-weight -1", "0 or more"]),
        (["--inter-weight", "1", "--scheme", "intra"], ["--inter-weight", "intra"]),
        (["--width", "0"], ["--width 0", "1 to"]),
        (["--width", "6", "--norm", "group"], ["--width 6", "multiple of 4"]),
        (
            ["--scheme", "inter", "--batch-real", "8"],
            ["--batch-real has no meaning", "--batch-mixed"],
        ),
        (["--batch-mixed", "8"], ["--batch-mixed has no meaning with --scheme multi-level"]),
        (["--network", "mlp", "--width", "8"], ["--width has no meaning with --network mlp"]),
        (["--depth", "4"], ["--depth 4", "8x8x1", "1x1 pixels"]),
        (["--seed", "-1"], ["--seed -1", "0 to"]),
        (["--seeds", "0"], ["--seeds 0", "1 to"]),
        (["--microbatch", "-8"], ["--microbatch -8", "0 to"]),
        (["--factor", "4"], ["--factor 4", "1 to 3"]),
        (["--inner-data", "real"], ["--inner-data real", "overfit"]),
        (["--inner-images", "8"], ["--inner-images", "synthetic"]),
        (["--strategy", "crop"], ["--strategy", "--augment none"]),
        (["--augment", "dsa", "--strategy", "crop_spin"], ["'spin'", "crop, cutout"]),
        (["--augment", "idc", "--strategy", "saturation"], ["saturation", "one channel"]),
        (["--augment", "mixup"], ["mixup", "dsa"]),
        (["--counted", "convolutions", "--network", "mlp"], ["--counted convolutions", "mlp"]),
        (["--colour", "red"], ["--colour"]),
    ],
)
def test_wrong_settings_are_one_line_and_leave_nothing(arguments, words, tmp_path):
    result = gm_jax("condense", "--dataset", "digits", *arguments, "--out", tmp_path / "run")
    assert_refused(result, *words)
    assert not list(tmp_path.iterdir())


def test_wrong_commands_are_one_line():
    assert_refused(gm_jax("condensate"), "condensate")
    assert_refused(gm_jax(), "{condense, finish, evaluate, show, report, export, prepare}")
    assert_refused(gm_jax("condense"), "--out")
    expected = "gm-jax: Missing from gm-jax evaluate: RUN; For full helptext, run: gm-jax evaluate"
    assert_refused(gm_jax("evaluate"), expected)


def test_nothing_is_written_into_a_run_that_is_in_use(finished, tmp_path):
    """A folder in use is left alone; a picture of it may lie elsewhere."""
    with locking.locked(finished):
        for out in ([], ["--out", finished / "report.html"]):
            assert_refused(gm_jax("report", finished, *out), "in use")
        for out in ([], ["--out", finished / "grid.png"]):
            assert_refused(gm_jax("show", finished, *out), "in use")
        assert gm_jax("show", finished, "--out", tmp_path / "grid.png")[0] == 0


def test_a_file_is_shown_beside_itself_by_its_whole_name(finished, tmp_path):
    for name, picture in (("a.npz", "a.png"), ("best.ipc1", "best.ipc1.png")):
        shutil.copy(finished / "synthetic.npz", tmp_path / name)
        status, out, _ = gm_jax("show", tmp_path / name)
        assert (status, out.strip()) == (0, str(tmp_path / picture))


def test_results_of_a_file_that_cannot_be_written_are_noticed_before_training(finished, tmp_path):
    shutil.copy(finished / "synthetic.npz", tmp_path / "a.npz")
    (tmp_path / "a.npz.evaluation.json").mkdir()
    refused = gm_jax("evaluate", tmp_path / "a.npz", "--count", 1000000)
    assert_refused(refused, "a.npz.evaluation.json is a folder")


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (["condense", "--out", "run"], "smaller sizes or --microbatch"),
        (["evaluate", "run"], "--chunk 1, or smaller networks"),
        (["show", "run"], "smaller sizes"),
    ],
)
def test_out_of_memory_is_one_line_that_says_what_takes_less(words, advice, monkeypatch):
    def work(parsed):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")

    monkeypatch.setattr(work_of_commands, "WORK", dict.fromkeys(work_of_commands.WORK, work))
    assert_refused(gm_jax(*words), f"out of memory: try {advice}")


def test_an_export_that_is_refused_leaves_no_folders(finished, tmp_path):
    """`digits` has no name that DC-Bench knows."""
    out = tmp_path / "a" / "b" / "c"
    assert_refused(gm_jax("export", finished, "--to", "dc-bench", "--out", out), "digits")
    assert not (tmp_path / "a").exists()
    assert gm_jax("export", finished, "--out", out)[0] == 0
    assert (out / "images.npz").exists()


def test_an_export_through_a_link_fills_what_it_names(finished, tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    assert gm_jax("export", finished, "--out", tmp_path / "link")[0] == 0
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there" / "images.npz").exists()


def test_classes_have_folders_of_their_own():
    names = ["cat", "..", "a/b", "CAT", "", "c:d", "x" * 300, " dog "]
    plain = ["cat", "1_", "2_a_b", "3_CAT", "4_", "5_c_d", "6_" + "x" * 100, "dog"]
    assert folder_names(names) == plain
    assert folder_names(["1_x_", "x?"]) == ["1_x_", "1_x__"]


@pytest.mark.slow
def test_a_run_is_replaced_only_on_request(finished, copy):
    before = (copy / "synthetic.npz").read_bytes()
    assert_refused(gm_jax("condense", *SMALL, "--out", copy), str(copy), "--replace")
    assert (copy / "synthetic.npz").read_bytes() == before
    assert gm_jax("condense", *SMALL, "--seeds", 1, "--out", copy, "--replace")[0] == 0
    assert not (copy / "evaluation.json").exists()  # it was of the run that is gone
    assert len(reading.load_condensed(copy).images) == 1


def test_folders_that_cannot_be_written_or_hold_something_else(tmp_path):
    (tmp_path / "file").write_text("mine")
    assert_refused(gm_jax("condense", *SMALL, "--out", tmp_path / "file"), "file")
    assert_refused(gm_jax("condense", *SMALL, "--out", tmp_path / "file" / "run"), "file/run")
    assert_refused(gm_jax("condense", *SMALL, "--out", tmp_path), "not empty")
    assert_refused(gm_jax("condense", *SMALL, "--out", "/proc/run"), "/proc/run", "cannot be")
    assert (tmp_path / "file").read_text() == "mine"
    foreign = tmp_path / "project"
    foreign.mkdir()
    (foreign / "config.json").write_text('{"mine": 1}')
    assert_refused(gm_jax("condense", *SMALL, "--out", foreign, "--replace"), "holds no run")
    assert (foreign / "config.json").read_text() == '{"mine": 1}'


def test_an_unfinished_run_is_in_nobodys_way(copy):
    (copy / "synthetic.npz").unlink()
    assert gm_jax("condense", *SMALL, "--out", copy)[0] == 0


@pytest.mark.parametrize("command", [["evaluate"], ["show"], ["export", "--out", "nowhere"]])
def test_run_folders_that_are_none(command, copy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name, *rest = command
    assert_refused(gm_jax(name, tmp_path / "missing", *rest), "missing", "no folder")
    (tmp_path / "empty").mkdir()
    assert_refused(gm_jax(name, tmp_path / "empty", *rest), "it is no run")
    data = (copy / "synthetic.npz").read_bytes()
    for spoiled in (data[: len(data) // 2], b"", b"not a zip", data[:-30]):
        (copy / "synthetic.npz").write_bytes(spoiled)
        assert_refused(gm_jax(name, copy, *rest), "synthetic.npz", "damaged")
    (copy / "synthetic.npz").unlink()
    assert_refused(gm_jax(name, copy, *rest), "not finished")
    assert not (tmp_path / "nowhere").exists()


def change(folder, **arrays):
    with np.load(folder / "synthetic.npz") as file:
        changed = dict(file) | arrays
    np.savez(folder / "synthetic.npz", **changed)


def test_run_folders_of_another_version_or_shape(copy):
    with np.load(copy / "synthetic.npz") as file:
        described, images = json.loads(str(file["config"])), file["images"]
    newer = np.array(json.dumps(described | {"format": 99}))
    change(copy, config=newer)
    assert_refused(gm_jax("show", copy), "format 99", "reads (3, 4)")
    change(copy, config=np.array(json.dumps(described)), images=images[:, :, :7])
    assert_refused(gm_jax("evaluate", copy), "(7, 8, 1)", "(8, 8, 1)")
    change(copy, images=images[:, :-1])
    assert_refused(gm_jax("show", copy), "images are float32 (2, 19, 8, 8, 1)")
    for settings in ({"width": None}, {"width": 8.5}, {"seeds": True}, {"ipc": "2"}, {"new": 1}):
        spoiled = described | {"settings": described["settings"] | settings}
        change(copy, images=images, config=np.array(json.dumps(spoiled)))
        assert_refused(gm_jax("show", copy), "synthetic.npz")
    change(copy, config=np.array(json.dumps(described)), labels=np.repeat(np.arange(10.0), 2))
    assert_refused(gm_jax("export", copy, "--out", copy / "x"), "labels")
    labels = np.repeat(np.arange(10, dtype=np.int32), 2)
    change(copy, labels=labels, images=np.full_like(images, np.nan))
    assert_refused(gm_jax("show", copy), "not finite")
    change(copy, images=images, mean=np.zeros((2, 2), np.float32))
    assert_refused(gm_jax("show", copy), "mean (2, 2)")
    change(copy, images=np.array([{"a": 1}], object))
    assert_refused(gm_jax("show", copy), "damaged")


def test_wrong_evaluation_settings(finished):
    assert_refused(gm_jax("evaluate", finished, "--count", 0), "--count 0", "1 to")
    assert_refused(gm_jax("evaluate", finished, "--epochs", 10**10), "--epochs 10000000000")
    assert_refused(gm_jax("show", finished, "--out", finished / "config.json"), ".png")
    assert_refused(gm_jax("report", finished, "--out", finished / "config.json"), ".html")
    assert_refused(gm_jax("evaluate", finished, "--seed", -1), "--seed -1")
    assert_refused(gm_jax("show", finished, "--set", 2), "set 2", "0 to 1")
    assert_refused(gm_jax("export", finished, "--out", finished), "not an empty folder")


def test_random_real_sets_of_more_images_than_a_class_has():
    """digits trains on 140 a class: at 150, ten a class are repeats that count nothing."""
    x, y = random_real(jax.random.key(0), load("digits").train, 150)
    assert x.shape == (1500, 8, 8, 1)
    assert np.bincount(np.asarray(y) + 1).tolist() == [100] + [140] * 10


@pytest.mark.slow
def test_multi_formation_and_real_inner_data(tmp_path):
    """Two learned images of each class stand for 2 * 2^2 = 8; both are kept, shown and exported."""
    arguments = [
        *SMALL,
        "--seeds",
        1,
        "--factor",
        2,
        "--step-rule",
        "fixed",
        "--inner-data",
        "real",
    ]
    arguments += ["--inner-images", 16, "--distance", "l1", "--counted", "convolutions"]
    assert gm_jax("condense", *arguments, "--out", tmp_path / "run")[0] == 0
    condensed = reading.load_condensed(tmp_path / "run")
    assert condensed.learned.shape == (1, 10, 2, 8, 8, 1)
    assert condensed.images.shape == (1, 80, 8, 8, 1)
    assert condensed.labels.tolist() == [c for c in range(10) for _ in range(8)]
    train = load("digits").train
    decode = multi_formation(2, (0.5 - train.mean) / train.std).decode
    np.testing.assert_allclose(
        decode(jax.numpy.asarray(condensed.learned[0])).reshape(80, 8, 8, 1),
        condensed.images[0],
        atol=1e-5,
    )
    status, out, err = gm_jax("evaluate", tmp_path / "run", "--count", 1, "--epochs", 1)
    assert status == 0, err
    assert "random real" in out
    assert gm_jax("export", tmp_path / "run", "--out", tmp_path / "out")[0] == 0
    with np.load(tmp_path / "out" / "images.npz") as file:
        assert file["images"].shape == (1, 80, 8, 8, 1)
        assert np.array_equal(file["learned"], condensed.learned)
    with np.load(tmp_path / "run" / "synthetic.npz") as file:
        arrays = dict(file)
    for learned, words in (
        (arrays["learned"][:, :, :1], ["(1, 10, 1"]),
        (np.full_like(arrays["learned"], np.nan), ["not finite"]),
    ):
        change(tmp_path / "run", learned=learned)
        assert_refused(gm_jax("show", tmp_path / "run"), *words)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dsa", "idc"])
def test_siamese_augmentation_gives_other_images(kind, finished, tmp_path):
    """In matching and in the inner epochs; evaluated with DSA's protocol."""
    arguments = [*SMALL, "--seeds", 1, "--augment", kind]
    assert gm_jax("condense", *arguments, "--out", tmp_path / "run")[0] == 0
    condensed = reading.load_condensed(tmp_path / "run")
    plain = reading.load_condensed(finished)
    assert condensed.images.shape[1:] == plain.images.shape[1:]
    assert not np.allclose(condensed.images[0], plain.images[0], atol=1e-3)
    few = ["--count", 1, "--epochs", 2, "--protocol", "dsa"]
    status, _, err = gm_jax("evaluate", tmp_path / "run", *few)
    assert status == 0, err
    ran = json.loads((tmp_path / "run" / "evaluation.json").read_text())["ran"]
    assert ran["protocol"] == "dsa"
