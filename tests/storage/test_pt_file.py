"""The PyTorch programs' files; run where torch is installed (`make test-port`)."""

import json
import sys

import numpy as np
import pytest
from command_line import gm_jax

from gm_jax.condensed import Condensed
from gm_jax.config import Config
from gm_jax.data import prepared
from gm_jax.data.loading import load
from gm_jax.published_settings import STATISTICS
from gm_jax.storage import locking, pt_file, reading, replacing, run_folder

torch = pytest.importorskip("torch")


def write_run(folder, config, images, mean, std, done):
    """A finished run of these images, class after class."""
    classes = images.shape[1] // config.ipc
    names = tuple(str(label) for label in range(classes))
    labels = np.repeat(np.arange(classes, dtype=np.int32), config.ipc)
    statistics = (np.asarray(part, np.float32) for part in (mean, std))
    about = run_folder.describe(config, load("digits"), None)
    done = np.asarray(done, np.int32)
    condensed = Condensed(images.astype(np.float32), labels, *statistics, names, done, config)
    with locking.locked(folder):
        replacing.create(folder, about)
        run_folder.write_condensed(folder, condensed, about)
    return folder


@pytest.fixture
def run(tmp_path):
    """A finished run of two sets of noise, two images a class, evaluated by two networks."""
    config = Config(dataset="digits", ipc=2, seeds=2, iterations=1, width=8, depth=2)
    images = np.random.default_rng(0).standard_normal((2, 20, 8, 8, 1))
    train = load("digits").train
    folder = write_run(tmp_path / "run", config, images, train.mean, train.std, [1, 1])
    found = {"accuracies": [[0.25, 0.5], [0.75, 1.0]], "mean": 62.5, "std": 28.0}
    results = {"convnet": {"protocol": {"epochs": 1}, "condensed": found}}
    (folder / "evaluation.json").write_text(json.dumps(results | {"ran": {"protocol": "paper"}}))
    return folder


def test_a_file_has_the_published_layout(run, tmp_path):
    status, out, _ = gm_jax("export", run, "--to", "pt", "--out", tmp_path / "res.pt")
    assert (status, out) == (0, f"2 sets: {tmp_path / 'res.pt'}\n")
    held = torch.load(tmp_path / "res.pt", weights_only=True)
    assert list(held) == ["data", "accs_all_exps"]
    assert held["accs_all_exps"] == {"convnet": [0.25, 0.5, 0.75, 1.0]}
    images = reading.load_condensed(run).images
    for number, (x, y) in enumerate(held["data"]):
        assert (x.dtype, y.dtype) == (torch.float32, torch.int64)
        assert y.tolist() == [c for c in range(10) for _ in range(2)]
        assert np.array_equal(x.numpy(), images[number].transpose(0, 3, 1, 2))


CIFAR = [(0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)]
CIFAR100 = [(0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762)]


@pytest.fixture
def cifar(tmp_path):
    """`name -> ` a run of three sets, two images a class, the second diverged, and its pixels.

    The sets begin at 0.125, 0.5 and 0.875 of full strength, which grows a little from image to
    image and from place to place; mean and standard deviation are gm_jax's.
    """

    def make(name):
        classes, mean, std = int(name[5:]), *STATISTICS[name]
        config = Config(dataset=name, ipc=2, seeds=3, iterations=2)
        pixels = np.array([0.125, 0.5, 0.875])[:, None] + np.arange(2 * classes) / 10000
        pixels = pixels[..., None, None, None] + np.arange(32 * 32 * 3).reshape(32, 32, 3) / 100000
        images = (pixels - np.array(mean)) / np.array(std)
        return write_run(tmp_path / name, config, images, mean, std, [2, 1, 2]), pixels[[0, 2]]

    return make


def pixels_of(images, mean, std):
    """What a benchmark takes normalised images [n, channel, height, width] for, channels last."""
    return images.numpy().transpose(0, 2, 3, 1) * np.array(std) + np.array(mean)


@pytest.mark.parametrize(
    ("name", "theirs", "statistics"),
    [("cifar10", "CIFAR10", CIFAR), ("cifar100", "CIFAR100", CIFAR100)],
)
def test_dc_bench_finds_its_file_and_reads_the_pixels(cifar, tmp_path, name, theirs, statistics):
    """By the path and the keys of its loader: the last set's images and labels, images to be
    normalised by its own mean and standard deviation.
    """
    folder, pixels = cifar(name)
    out = tmp_path / "distilled_results"
    status, said, err = gm_jax("export", folder, "--to", "dc-bench", "--out", out)
    assert (status, said) == (0, f"{pixels.shape[1] * 2} images: {out}\n")
    assert "set 1 diverged" in err
    [path] = [path for path in out.rglob("*") if path.is_file()]
    assert path == out / "DC" / theirs / "IPC2" / f"res_DC_{theirs}_ConvNet_2ipc.pt"
    held = torch.load(path)
    assert list(held) == ["data", "accs_all_exps"]
    assert len(held["data"]) == 2
    images, labels = held["data"][-1]
    assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)
    assert images.shape == (pixels.shape[1], 3, 32, 32)
    assert np.array_equal(labels, np.repeat(np.arange(pixels.shape[1] // 2), 2))
    assert np.allclose(pixels_of(images, *statistics), pixels[1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_dd_ranking_gets_two_tensors_a_set(cifar, tmp_path, name):
    """It normalises CIFAR-100 too by the mean and standard deviation of CIFAR-10; a set that
    diverged is left out, and the others keep their numbers.
    """
    folder, pixels = cifar(name)
    out = tmp_path / "tensors"
    assert gm_jax("export", folder, "--to", "dd-ranking", "--out", out)[0] == 0
    found = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert found == [f"set{k}/{part}.pt" for k in (0, 2) for part in ("images", "labels")]
    for of_set, number in zip(pixels, (0, 2), strict=True):
        images, labels = (torch.load(out / f"set{number}/{x}.pt") for x in ("images", "labels"))
        assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)
        assert images.is_contiguous()
        assert np.array_equal(labels, np.repeat(np.arange(len(of_set) // 2), 2))
        assert np.allclose(pixels_of(images, *CIFAR), of_set, rtol=0, atol=1e-6)
    assert images.untyped_storage().nbytes() == images.nbytes, "the file holds one set only"


def test_a_pixel_by_hand(cifar, tmp_path):
    """The first pixel of set 0 is 0.125: (0.125 - 0.4914) / 0.2023 = -1.8112 in its red channel,
    where gm_jax has (0.125 - 0.4914) / 0.2470 = -1.4834.
    """
    folder, _ = cifar("cifar10")
    assert reading.load_condensed(folder).images[0, 0, 0, 0, 0] == pytest.approx(-1.4834, abs=1e-4)
    assert gm_jax("export", folder, "--to", "dd-ranking", "--out", tmp_path / "out")[0] == 0
    images = torch.load(tmp_path / "out/set0/images.pt")
    assert images[0, 0, 0, 0].item() == pytest.approx(-1.8112, abs=1e-4)


@pytest.mark.parametrize("to", ["dc-bench", "dd-ranking"])
def test_a_data_set_that_a_benchmark_does_not_know_is_refused(run, tmp_path, to):
    status, out, err = gm_jax("export", run, "--to", to, "--out", tmp_path / "out")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "does not evaluate digits, but cifar10, cifar100" in err
    assert [path.name for path in tmp_path.iterdir()] == ["run"], "nothing half-written"


def test_a_prepared_data_set_has_its_name(tmp_path):
    """DC-Bench knows it by what `gm-jax prepare` was given."""
    dataset = load("digits")._replace(name="cifar10")
    prepared.write(tmp_path / "set", prepared.of_dataset(dataset))
    config = Config(dataset=str(tmp_path / "set"), ipc=1, iterations=1)
    mean, std = dataset.train.mean, dataset.train.std
    images = np.zeros((1, 10, 8, 8, 1), np.float32)
    run = write_run(tmp_path / "run", config, images, mean, std, [1])
    assert gm_jax("export", run, "--to", "dd-ranking", "--out", tmp_path / "out")[0] == 0


def test_sets_that_diverged_are_not_in_a_pt_file(cifar, tmp_path):
    folder, pixels = cifar("cifar10")
    assert gm_jax("export", folder, "--to", "pt", "--out", tmp_path / "a.pt")[0] == 0
    held = torch.load(tmp_path / "a.pt")["data"]
    ours = STATISTICS["cifar10"]
    for (images, _), of_set in zip(held, pixels, strict=True):
        assert np.allclose(pixels_of(images, *ours), of_set, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_what_is_exported_is_read_back_to_the_bit_and_evaluated(run, tmp_path):
    path = tmp_path / "res.pt"
    assert gm_jax("export", run, "--to", "pt", "--out", path)[0] == 0
    arguments = ["--dataset", "digits", "--count", 1, "--epochs", 1, "--networks", "mlp"]
    status, out, err = gm_jax("evaluate", path, *arguments)
    assert status == 0, err
    assert "condensed" in out
    theirs = json.loads((tmp_path / "res.pt.evaluation.json").read_text())["mlp"]
    assert gm_jax("evaluate", run, *arguments[2:])[0] == 0
    ours = json.loads((run / "evaluation.json").read_text())["mlp"]
    assert theirs["condensed"]["accuracies"] == ours["condensed"]["accuracies"]


def test_accuracies_computed_by_numpy_are_no_hindrance(tmp_path):
    """The published programs keep numpy.float64, which PyTorch reads only where that is allowed."""
    pair = [torch.zeros(10, 1, 8, 8), torch.arange(10)]
    held = {"data": [pair], "accs_all_exps": {"ConvNet": [np.float64(0.5)]}}
    torch.save(held, tmp_path / "a.pt")
    assert pt_file.read(tmp_path / "a.pt", load("digits")).images.shape == (1, 10, 8, 8, 1)


def test_images_in_any_order_are_sorted_by_class(tmp_path):
    labels = torch.arange(9, -1, -1)
    images = labels[:, None, None, None] * torch.ones(10, 1, 8, 8)
    torch.save({"data": [[images, labels]], "accs_all_exps": {}}, tmp_path / "a.pt")
    synthetic = pt_file.read(tmp_path / "a.pt", load("digits"))
    assert synthetic.images[0, :, 0, 0, 0].tolist() == list(range(10))
    assert synthetic.config.ipc == 1


@pytest.mark.parametrize(
    ("held", "says"),
    [
        ({"data": []}, "holds no sets"),
        ({"nothing": 1}, "cannot be read"),
        ({"data": [[torch.zeros(10, 1, 28, 28), torch.arange(10)]]}, "digits has (1, 8, 8)"),
        ({"data": [[torch.zeros(10, 1, 8, 8), torch.arange(10) + 1]]}, "of each of 10 classes"),
        ({"data": [[torch.zeros(10, 1, 8, 8), torch.arange(10.0)]]}, "labels are float32"),
        ({"data": [[torch.full((10, 1, 8, 8), torch.nan), torch.arange(10)]]}, "finite"),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path, held, says):
    torch.save(held, tmp_path / "a.pt")
    status, _, err = gm_jax("evaluate", tmp_path / "a.pt", "--dataset", "digits")
    assert status == 2
    assert says in err
    assert err.count("\n") == 1


class Malice:
    """An object whose unpickling would write a file."""

    def __reduce__(self):
        return (open, ("/tmp/gm_jax_was_here", "w"))


def test_nothing_pickled_is_executed(tmp_path):
    torch.save({"data": Malice()}, tmp_path / "a.pt")
    status, _, err = gm_jax("evaluate", tmp_path / "a.pt", "--dataset", "digits")
    assert status == 2
    assert "cannot be read" in err
    (tmp_path / "b.pt").write_bytes(b"PK\x03\x04 but no archive")
    assert gm_jax("evaluate", tmp_path / "b.pt", "--dataset", "digits")[0] == 2


def test_the_data_set_must_be_named_and_an_existing_file_is_not_overwritten(run, tmp_path):
    (tmp_path / "a.pt").touch()
    status, _, err = gm_jax("evaluate", tmp_path / "a.pt")
    assert status == 2
    assert "--dataset" in err
    status, _, err = gm_jax("export", run, "--to", "pt", "--out", tmp_path / "a.pt")
    assert status == 2
    assert "exists" in err


def test_a_damaged_evaluation_and_an_unwritable_file_are_one_line(run, tmp_path):
    status, _, err = gm_jax("export", run, "--to", "pt", "--out", "/proc/a.pt")
    assert (status, err.count("\n")) == (2, 1)
    (run / "evaluation.json").write_text("{")
    status, _, err = gm_jax("export", run, "--to", "pt", "--out", tmp_path / "a.pt")
    assert status == 2
    assert "evaluation.json is damaged" in err


@pytest.mark.parametrize("to", ["dc-bench", "dd-ranking"])
def test_without_torch_no_benchmark_gets_a_file(cifar, tmp_path, monkeypatch, to):
    folder, _ = cifar("cifar10")
    monkeypatch.setitem(sys.modules, "torch", None)
    status, _, err = gm_jax("export", folder, "--to", to, "--out", tmp_path / "out")
    assert status == 2
    assert "gm_jax[torch]" in err
    assert [path.name for path in tmp_path.iterdir()] == ["cifar10"]


def test_without_torch_one_line_says_so(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    status, _, err = gm_jax("export", run, "--to", "pt", "--out", tmp_path / "a.pt")
    assert status == 2
    assert "gm_jax[torch]" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "a.pt").exists()


def test_a_tensor_that_only_claims_its_size_is_refused(tmp_path):
    """One number with strides of 0, said to be 10^9 images: 4 bytes on the disk."""
    images, labels = torch.zeros(1).expand(10**9, 1, 8, 8), torch.zeros(1).expand(10**9)
    torch.save({"data": [[images, labels]]}, tmp_path / "small.pt")
    status, out, err = gm_jax("evaluate", tmp_path / "small.pt", "--dataset", "digits")
    assert (status, out) == (2, "")
    assert "cannot be read as" in err
