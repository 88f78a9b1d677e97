"""The PyTorch programs' files; run where torch is installed (`make test-port`)."""

import json
import sys

import numpy as np
import pytest
from command_line import gm_jax

from gm_jax.condensed import Condensed
from gm_jax.config import Config
from gm_jax.data.loading import load
from gm_jax.storage import pt_file, run_folder

torch = pytest.importorskip("torch")


@pytest.fixture
def run(tmp_path):
    """A finished run of two sets of noise, two images a class, evaluated by two networks."""
    config = Config(dataset="digits", ipc=2, seeds=2, iterations=1, width=8, depth=2)
    images = np.random.default_rng(0).standard_normal((2, 20, 8, 8, 1)).astype(np.float32)
    train = load("digits").train
    statistics = (np.asarray(part, np.float32) for part in (train.mean, train.std))
    names = tuple(str(d) for d in range(10))
    labels = np.repeat(np.arange(10, dtype=np.int32), 2)
    folder = tmp_path / "run"
    about = run_folder.describe(config, load("digits"), None)
    done = np.ones(2, np.int32)
    synthetic = Condensed(images, labels, *statistics, names, done, config)
    with run_folder.locked(folder):
        run_folder.create(folder, about)
        run_folder.write_condensed(folder, synthetic, about)
    accuracies = {"condensed": {"accuracies": [[0.25, 0.5], [0.75, 1.0]]}}
    (folder / "evaluation.json").write_text(json.dumps({"convnet": accuracies, "ran": {}}))
    return folder


def test_a_file_has_the_published_layout(run, tmp_path):
    status, out, _ = gm_jax("export", run, "--to", "pt", "--out", tmp_path / "res.pt")
    assert (status, out) == (0, f"2 sets: {tmp_path / 'res.pt'}\n")
    held = torch.load(tmp_path / "res.pt", weights_only=True)
    assert list(held) == ["data", "accs_all_exps"]
    assert held["accs_all_exps"] == {"convnet": [0.25, 0.5, 0.75, 1.0]}
    images = run_folder.read_condensed(run).images
    for number, (x, y) in enumerate(held["data"]):
        assert (x.dtype, y.dtype) == (torch.float32, torch.int64)
        assert y.tolist() == [c for c in range(10) for _ in range(2)]
        assert np.array_equal(x.numpy(), images[number].transpose(0, 3, 1, 2))


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
