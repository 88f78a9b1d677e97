"""Released sets: single files that are all one needs."""

import hashlib
import json
import shutil

import numpy as np
import pytest
from command_line import SMALL, assert_refused, gm_jax

import gm_jax as library
from experiments import release
from gm_jax.storage import reading


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("release") / "run"
    assert gm_jax("condense", *SMALL, "--factor", 2, "--out", folder)[0] == 0
    assert gm_jax("evaluate", folder, "--count", 2, "--epochs", 2)[0] == 0
    return folder


@pytest.fixture(scope="module")
def released(finished, tmp_path_factory):
    out = tmp_path_factory.mktemp("sets")
    assert release.main([f"mine={finished}", "--out", str(out)]) == 0
    return out


def test_a_released_file_is_the_run(finished, released):
    path = released / "digits-mine-ipc2.npz"
    one, two = library.load_condensed(path), library.load_condensed(finished)
    assert np.array_equal(one.images, two.images)
    assert np.array_equal(one.learned, two.learned)
    assert one.config == two.config
    about = json.loads(path.with_suffix(".json").read_text())
    assert about["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    found = json.loads((finished / "evaluation.json").read_text())["convnet"]["condensed"]
    assert about["accuracy"] == f"{found['mean']:.1f} ± {found['std']:.1f} (2)"
    random = json.loads((finished / "evaluation.json").read_text())["convnet"]["random real"]
    page = (released / "README.md").read_text()
    assert f"| {about['accuracy']} | {random['mean']:.1f} ± {random['std']:.1f} |" in page
    assert "| 2 convnets for each set, 2 epochs, protocol paper |" in page
    assert about["command"] in page
    assert path.with_suffix(".png").name in page


def test_a_released_file_is_evaluated_as_its_run_is(finished, released):
    """The same networks on the same images; what comes of it lies beside the file."""
    path = released / "digits-mine-ipc2.npz"
    assert gm_jax("evaluate", path, "--count", 2, "--epochs", 2)[0] == 0
    results = json.loads((released / f"{path.name}.evaluation.json").read_text())
    assert results["convnet"] == reading.read_results(finished)["convnet"]
    assert (
        release.main([f"other={finished}", "--out", str(released)]) == 0
    )  # and is in nobody's way
    page = (released / "README.md").read_text()
    assert page.count("SHA-256") == 2


def test_a_released_file_is_shown_beside_itself(released):
    status, out, _ = gm_jax("show", released / "digits-mine-ipc2.npz")
    assert (status, out) == (0, f"{released / 'digits-mine-ipc2.png'}\n")


def test_files_that_are_none_are_one_line(tmp_path):
    (tmp_path / "a.npz").write_text("no archive")
    np.savez(tmp_path / "b.npz", images=np.zeros(3))
    for name in ("a.npz", "b.npz"):
        assert_refused(gm_jax("evaluate", tmp_path / name), name)
        assert_refused(gm_jax("show", tmp_path / name), name)


def test_the_list_names_its_own_folder_and_what_was_there(finished, released, tmp_path, capsys):
    out = tmp_path / "own"
    shutil.copytree(released, out)
    assert release.main([f"another={finished}", "--out", str(out)]) == 0
    page = (out / "README.md").read_text()
    assert f'load_condensed("{out}/digits-another-ipc2.npz")' in page
    assert page.index("## digits-another-ipc2") < page.index("## digits-mine-ipc2")
    before = sorted(out.iterdir())
    np.savez(out / "foreign.npz", images=np.zeros(3))
    capsys.readouterr()
    for held in (None, {}):
        if held is not None:
            (out / "foreign.json").write_text("{}")
        assert release.main([f"last={finished}", "--out", str(out)]) == 2
        assert "foreign.json" in capsys.readouterr().err
    assert sorted(path for path in out.iterdir() if path.stem != "foreign") == before


@pytest.mark.parametrize("word", ["mine", "mine=", "=runs/a", "a b=runs/a", "mine=nowhere"])
def test_what_cannot_be_released_is_one_line(word, tmp_path, capsys):
    assert release.main([word, "--out", str(tmp_path / "sets")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("release: ")
    assert not (tmp_path / "sets").exists()
