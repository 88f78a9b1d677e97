"""Recipes against the published settings, and on the command line."""

import dataclasses
import json

import jax.numpy as jnp
import pytest
from command_line import assert_refused, cli, gm_jax
from golden_files import BEYOND

from experiments import recipes
from gm_jax.build import build_method, build_protocol
from gm_jax.config import Config, check, outer_steps
from gm_jax.data.loading import load
from gm_jax.published_settings import paper_steps
from gm_jax.recipes import RECIPES, recipe

IDC = json.loads((BEYOND / "idc_settings.json").read_text())
DSA = json.loads((BEYOND / "dsa_settings.json").read_text())
DATASETS = {"mnist": 0.3081, "fashion": 0.3530, "svhn": 0.19867, "cifar10": 0.25060}
OUR_NAMES = {"fashion": "fashion_mnist", "svhn": "svhn_cropped"}


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("dataset", ["mnist5k", "fashion_mnist", "cifar10", "my_pictures"])
@pytest.mark.parametrize("ipc", [1, 10, 50])
def test_every_recipe_is_allowed(name, dataset, ipc):
    for factor in (None, 1, 3):
        check(recipe(name, dataset, ipc, factor))


@pytest.mark.parametrize("row", IDC["loop"]["lr_img_table"])
def test_idcs_learning_rates(row):
    """lr of pixels in 0..1 over std^2: the std is the mean of the channels'."""
    config = recipe("idc", OUR_NAMES.get(row["dataset"], row["dataset"]), row["ipc"])
    of_pixels = config.image_lr[0] * DATASETS[row["dataset"]] ** 2
    assert of_pixels == pytest.approx(row["lr_img_used"], rel=1e-3)


@pytest.mark.parametrize(
    ("dataset", "distance", "images"),
    [
        ("mnist", "l1", 512),
        ("fashion_mnist", "l1", 512),
        ("svhn_cropped", "sqsum", 512),
        ("cifar10", "sqsum", 2048),
    ],
)
def test_idc(dataset, distance, images):
    """idc_settings.json: metric_used, loop, real_batch, synthetic_batch, network_optimizer."""
    config = recipe("idc", dataset, 10)
    assert (config.distance, config.inner_images) == (distance, images)
    assert (config.iterations, config.outer_steps, config.inner_epochs) == (2000, 100, 1)
    assert (config.batch_real, config.batch_synthetic, config.batch_train) == (64, 128, 64)
    assert (config.network_momentum, config.network_weight_decay) == (0.9, 5e-4)
    assert (config.factor, config.start, config.clamp) == (2, "mix", True)
    mnist = dataset == "mnist"  # multi-formed MNIST: neither cutout nor cutmix
    assert config.strategy == ("color_crop" if mnist else None)
    assert (config.inner_strategy, config.cutmix) == ("color_crop", 0.0 if mnist else 0.5)
    assert recipe("idc", dataset, 10, 1).start == "real"


def test_dsa():
    published = DSA["FashionMNIST"]
    config = recipe("dsa", "fashion_mnist", 10)
    assert published["iterations"].startswith(f"{config.iterations} by the argument")
    assert config.batch_real == published["batch_real"]
    assert (config.scheme, config.distance, config.start) == ("intra", "cosine", "real")
    assert config.network_momentum == 0
    assert config.step_rule == "fixed"


@pytest.mark.parametrize(("ipc", "loops"), [(1, (10, 5)), (10, (10, 50)), (50, (50, 10))])
def test_dcc(ipc, loops):
    """Its get_loops at 5073a44; the warm-up of 250 and 10, weight 1, real start, no momentum."""
    config = recipe("dcc", "cifar10", ipc)
    outer = outer_steps(config)
    inner = config.inner_epochs or paper_steps(ipc)[1]
    assert (outer, inner) == loops
    assert (config.scheme, config.inter_weight, config.start) == ("warm-up", (1.0,), "real")
    assert (config.network_momentum, config.distance) == (0, "cosine")


def test_parts_of_best_are_in_it():
    """Every row of the ablation but the first differs from best, in no more than it names."""
    best = recipe("best", "fashion_mnist", 1)
    for name, changes in list(recipes.PARTS.items())[1:]:
        assert all(getattr(best, key) != value for key, value in changes.items()), name
        check(dataclasses.replace(best, **changes))


def test_the_paper_is_the_default():
    assert recipe("paper", "mnist5k", 10) == Config(dataset="mnist5k", ipc=10)


def test_idcs_protocol():
    """After 666 and 833 of 1000 epochs a fifth; batches of 64; no cutmix on multi-formed MNIST."""
    digits = load("digits")  # treated as MNIST
    for factor, other in ((1, True), (2, False)):
        protocol = build_protocol("idc", recipe("idc", "digits", 1, factor), digits)
        assert protocol.drops_after() == {666: 0.2, 833: 0.2}
        assert protocol._replace(epochs=2).drops_after() == pytest.approx({1: 0.04})
        assert (protocol.epochs, protocol.batch) == (1000, 64)
        method = build_method(recipe("idc", "digits", 1, factor), digits)
        assert method.inner_augment is not None
        assert (recipe("idc", "digits", 1, factor).cutmix > 0) == other


@pytest.mark.slow
def test_a_recipe_sets_defaults_that_can_be_overridden(tmp_path):
    """Clamped to black and white, 20 mosaics of 4 images each, another batch than the recipe's."""
    arguments = ["--recipe", "idc", "--dataset", "digits", "--ipc", 2, "--width", 4, "--depth", 1]
    arguments += ["--iterations", 1, "--outer-steps", 2, "--batch-real", 8, "--inner-images", 64]
    status, _, err = gm_jax("condense", *arguments, "--out", tmp_path / "run")
    assert status == 0, err
    about = json.loads((tmp_path / "run" / "config.json").read_text())
    assert about["recipe"] == "idc"
    held = about["settings"]
    assert (held["batch_real"], held["counted"], held["factor"]) == (8, "convolutions", 2)
    few = ["--count", 1, "--epochs", 6, "--protocol", "idc", "--tests", 3]
    few += ["--networks", "convnet", "mlp"]  # which has no convolutions to count
    status, out, err = gm_jax("evaluate", tmp_path / "run", *few)
    assert status == 0, err
    assert "chosen on the test images" in out
    found = json.loads((tmp_path / "run" / "evaluation.json").read_text())["convnet"]["condensed"]
    tests = found["accuracies_of_all_tests"][0][0]
    assert len(tests) == 3
    assert found["accuracies"] == [[tests[-1]]]
    assert found["best_on_test_images"]["mean"] == pytest.approx(100 * max(tests))


def test_help_shows_what_a_recipe_sets(capsys):
    with pytest.raises(SystemExit):
        cli.main(["condense", "--recipe", "dcc", "--help"])
    shown = capsys.readouterr().out
    assert "(default: warm-up)" in " ".join(shown.split())


def test_a_recipe_goes_by_what_was_prepared(tmp_path):
    """Not by the name of the folder: digits are treated as MNIST there too."""
    folder = tmp_path / "set"
    assert gm_jax("prepare", "digits", "--out", folder)[0] == 0
    words = ["--recipe", "idc", "--dataset", str(folder), "--out", str(tmp_path / "run")]
    found = cli.parse(["condense", *words]).config
    assert found == dataclasses.replace(recipe("idc", "digits", 10), dataset=str(folder))
    (folder / "manifest.json").write_text('{"format": "gm_jax prepared data set, 1"}')
    assert_refused(gm_jax("condense", *words), str(folder), "damaged")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--recipe", "mtt"], ["mtt", "idc"]),
        (["--recipe", "idc", "--factor", "9"], ["--factor 9", "1 to 3"]),
        (["--recipe", "idc", "--ipc", "x"], ["--ipc: must be a whole number, not 'x'"]),
        (["--start", "mix"], ["--start mix", "--factor 1"]),
        (["--start", "mix", "--factor", "3", "--ipc", "20"], ["--ipc 20", "15"]),
        (["--batch-synthetic", "2", "--scheme", "inter"], ["--batch-synthetic", "inter"]),
        (["--inner-strategy", "crop"], ["--inner-strategy", "--augment none"]),
        (["--cutmix", "1.5"], ["--cutmix 1.5", "0 to 1"]),
        (["--cutmix", "0.5", "--ipc", "1"], ["--cutmix", "one outer step"]),
        (["--network-lr", "0.1", "0.2", "--ipc", "1"], ["--network-lr", "one outer step"]),
        (["--network", "mlp", "--convolution", "xla"], ["--convolution", "--network mlp"]),
        (["--recipe", "idc", "--outer-steps", "1"], ["--inner-epochs", "--recipe idc"]),
        (
            ["--inner-data", "real", "--step-rule", "fixed", "--inner-images", "9999"],
            ["--inner-images 9999", "1400"],
        ),
    ],
)
def test_wrong_settings(arguments, words, tmp_path):
    result = gm_jax("condense", "--dataset", "digits", *arguments, "--out", tmp_path / "run")
    assert_refused(result, *words)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_scores(tmp_path):
    """HLR is the full accuracy less that of the set; IOR and beta compare with random real images.

    One network each: the printed scores are those of the accuracies in evaluation.json.
    """
    run = tmp_path / "run"
    small = ["--dataset", "digits", "--ipc", 1, "--width", 4, "--depth", 1, "--iterations", 1]
    assert gm_jax("condense", *small, "--batch-real", 8, "--out", run)[0] == 0
    few = ["--count", 1, "--epochs", 3]
    status, out, err = gm_jax("evaluate", run, *few, "--scores", "--full-accuracy", 0.9)
    assert status == 0, err
    assert "LRS" in out
    found = json.loads((run / "evaluation.json").read_text())["convnet"]
    accuracies = [found[kind]["accuracies"][0][0] for kind in ("condensed", "random real")]
    held = found["condensed"]["scores"]
    assert held["hlr"] == pytest.approx(0.9 - accuracies[0])
    assert held["ior"] == pytest.approx(accuracies[0] - accuracies[1])
    assert held["alpha"] == pytest.approx((held["ior"] - held["hlr"]) / 2)
    status, out, err = gm_jax("evaluate", run, *few, "--scores", "--full-epochs", 1)
    assert status == 0, err
    refused = gm_jax("evaluate", run, "--full-epochs", 3)
    assert_refused(refused, "--full-epochs", "--scores")
    assert_refused(gm_jax("evaluate", run, "--scores", "--skip-random-real"), "--scores")
    both = ["--scores", "--full-accuracy", 0.9]
    assert_refused(gm_jax("evaluate", run, *both, "--full-epochs", 3), "--full-epochs")
    assert_refused(gm_jax("evaluate", run, *both, "--networks", "mlp", "lenet"), "--full-accuracy")
    assert_refused(gm_jax("evaluate", run, "--tests", 9, "--epochs", 3), "--tests 9", "3")
    assert_refused(gm_jax("evaluate", run, "--protocol", "mtt"), "mtt", "ddranking")


def test_clamped_images_are_black_to_white():
    """Pixels of 0 and 1, normalised; what is between stays as it is."""
    config = Config(dataset="digits", ipc=1, width=4, depth=1, batch_real=8, clamp=True)
    digits = load("digits")
    project = build_method(config, digits).parametrisation.project
    mean, std = digits.train.mean, digits.train.std
    low, high = (0 - mean[0]) / std[0], (1 - mean[0]) / std[0]
    far = jnp.array([-100.0, 0.0, 100.0]).reshape(1, 1, 1, 3, 1)
    assert jnp.allclose(project(far).ravel(), jnp.array([low, 0.0, high]))
