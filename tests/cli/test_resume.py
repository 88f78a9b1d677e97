"""Runs that are interrupted, resumed, locked out, short of disk space, or diverge."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys

import filelock
import numpy as np
import pytest
from command_line import SMALL, assert_refused, gm_jax, results

from gm_jax.build import start_sets
from gm_jax.cli import condense
from gm_jax.data.loading import load
from gm_jax.report.images import images_along
from gm_jax.storage import (
    checkpoints,
    locking,
    provenance,
    reading,
    replacing,
    run_folder,
    snapshots,
)

LONGER = [*SMALL, "--iterations", 5, "--checkpoint-every", 1]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """A run that nothing disturbed, evaluated."""
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    assert gm_jax("condense", *LONGER, "--out", folder)[0] == 0
    assert gm_jax("evaluate", folder, "--count", 1, "--epochs", 2)[0] == 0
    return folder


@contextlib.contextmanager
def interrupting(number, name):
    """Sends a signal to this process once so many iterations are logged.

    No signal is ignored then, as SIGINT is where these tests run in the background.
    """
    before = [signal.signal(signal.SIGINT, signal.default_int_handler)]
    before.append(signal.signal(signal.SIGTERM, signal.SIG_DFL))
    append = run_folder.append_metrics

    def appended(folder, rows):
        append(folder, rows)
        if rows[0]["iteration"] == number:
            patch.undo()  # only once
            os.kill(os.getpid(), name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_folder, "append_metrics", appended)
        yield
    for name, handler in zip((signal.SIGINT, signal.SIGTERM), before):
        signal.signal(name, handler)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run stopped by SIGTERM as iteration 2 was logged."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    with interrupting(2, signal.SIGTERM):
        assert gm_jax("condense", *LONGER, "--out", folder)[0] == 143
    return folder


@pytest.fixture
def halfway(stopped, tmp_path):
    """That run, for a test to spoil."""
    return shutil.copytree(stopped, tmp_path / "halfway")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_signal_finishes_the_iteration_saves_and_says_how_to_go_on(
    unbroken, tmp_path, name, status
):
    """And the resumed run is the unbroken one, to the last byte of every file but the seconds."""
    folder = tmp_path / "run"
    with interrupting(2, getattr(signal, name)):
        found, out, err = gm_jax("condense", *LONGER, "--out", folder)
    assert (found, out) == (status, "")
    last = err.splitlines()[-1]
    assert last.startswith(f"gm-jax: stopped by {name} after iteration 3 of 5; to ")
    assert not run_folder.finished(folder)
    assert checkpoints.numbers(folder) == [2, 3]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    again = last.partition("to resume: gm-jax ")[2].split()
    assert f"to end it here: gm-jax finish {folder}; " in last
    found, _, err = gm_jax(*again)
    assert found == 0
    assert "resumes at iteration 3 of 5" in err
    assert gm_jax("evaluate", folder, "--count", 1, "--epochs", 2)[0] == 0
    assert results(folder) == results(unbroken)
    seconds = [json.loads(line)["seconds"] for line in (folder / "metrics.jsonl").open()]
    assert seconds == sorted(seconds)  # the clock of a resumed run goes on


def test_resuming_a_finished_run_or_nothing(unbroken, tmp_path):
    """The same command may be given again and again: it begins, goes on, or is done."""
    before = results(unbroken)
    status, _, err = gm_jax("condense", *LONGER, "--out", unbroken, "--resume")
    assert status == 0
    assert "is finished" in err
    assert results(unbroken) == before
    few = [*SMALL, "--iterations", 1, "--out", tmp_path / "new", "--resume"]
    status, _, err = gm_jax("condense", *few)
    assert status == 0
    assert "holds nothing to resume: starting" in err


def test_other_settings_or_data_are_not_resumed(halfway, tmp_path, monkeypatch):
    for other, words in (
        (["--image-lr", "0.2"], ["--image-lr None, not [0.2]"]),
        (["--iterations", "6"], ["--iterations 5, not 6"]),
        (["--seeds", "1"], ["--seeds 2, not 1"]),
    ):
        command = [*LONGER, *other, "--out", halfway, "--resume"]
        assert_refused(gm_jax("condense", *command), str(halfway), *words)
    digits = load("digits")
    changed = digits.train._replace(images=digits.train.images.at[3, 0, 0, 0, 0].add(1))
    with monkeypatch.context() as patch:
        patch.setattr(condense, "load", lambda *_: digits._replace(train=changed))
        assert_refused(gm_jax("condense", *LONGER, "--out", halfway, "--resume"), "other images")
    assert gm_jax("condense", *LONGER, "--out", halfway, "--resume")[0] == 0


def test_another_environment_is_said_and_recorded(halfway, monkeypatch):
    now = provenance.environment()
    other = now | {"versions": now["versions"] | {"jax": "9.9"}, "commit": "abc"}
    monkeypatch.setattr(provenance, "environment", lambda: other)
    status, _, err = gm_jax("condense", *LONGER, "--out", halfway, "--resume")
    assert status == 0
    assert "other versions, commit" in err
    about = reading.read_about(halfway)
    assert about["versions"] == now["versions"]
    assert about["continued"] == [{"iteration": 3} | other]
    with np.load(halfway / "synthetic.npz") as file:
        assert json.loads(str(file["config"])) == about


def test_an_unfinished_run_is_not_overwritten_unasked(halfway):
    refused = gm_jax("condense", *LONGER, "--out", halfway)
    assert_refused(refused, "unfinished run of 3 iterations", "--resume", "--replace")
    both = gm_jax("condense", *LONGER, "--out", halfway, "--resume", "--replace")
    assert_refused(both, "choose one")
    assert gm_jax("condense", *SMALL, "--out", halfway, "--replace")[0] == 0
    assert not (halfway / "checkpoints").exists()


def held_arrays(folder):
    """All of synthetic.npz but the record of the run."""
    with np.load(folder / "synthetic.npz") as file:
        return {name: file[name] for name in file.files if name != "config"}


def test_a_run_is_ended_where_it_was_stopped(halfway, tmp_path):
    """It is then, but for its record, the run of so many iterations: here 3 of 5."""
    status, out, _ = gm_jax("finish", halfway)
    assert (status, out) == (0, f"finished after 3 of 5 iterations: {halfway}\n")
    assert gm_jax("condense", *LONGER, "--iterations", 3, "--out", tmp_path / "short")[0] == 0
    short, ended = held_arrays(tmp_path / "short"), held_arrays(halfway)
    assert short.keys() == ended.keys()
    assert all(np.array_equal(short[name], ended[name]) for name in short)
    lines = results(halfway)["metrics.jsonl"]
    assert lines == results(tmp_path / "short")["metrics.jsonl"]
    about = reading.read_about(halfway)
    assert (about["settings"]["iterations"], about["planned_iterations"]) == (3, 5)
    assert not (halfway / "checkpoints").exists()
    before = results(halfway)
    status, _, err = gm_jax("finish", halfway)
    assert (status, err) == (0, f"{halfway} is finished: nothing to resume\n")
    assert results(halfway) == before
    for resumed in (LONGER, [*LONGER, "--iterations", 3]):
        refused = gm_jax("condense", *resumed, "--out", halfway, "--resume")
        assert_refused(refused, "ended after 3 of 5 iterations")
    assert gm_jax("evaluate", halfway, "--count", 1, "--epochs", 1)[0] == 0
    assert gm_jax("report", halfway)[0] == 0
    assert "3 of 5 iterations" in (halfway / "report.html").read_text()


@pytest.fixture
def cut_off_ending(halfway, monkeypatch):
    """That run, killed while it was ended: config.json says so already, and nothing else does."""

    def cut_off(*_):
        raise RuntimeError("cut off")

    with monkeypatch.context() as patch:
        patch.setattr(run_folder, "write_condensed", cut_off)
        with pytest.raises(RuntimeError, match="cut off"):
            gm_jax("finish", halfway)
    about = reading.read_about(halfway)
    assert (about["settings"]["iterations"], about["planned_iterations"]) == (3, 5)
    return halfway


def test_an_ending_that_is_cut_off_is_repeated(cut_off_ending):
    assert gm_jax("finish", cut_off_ending)[0] == 0
    assert reading.read_about(cut_off_ending)["planned_iterations"] == 5
    assert reading.load_condensed(cut_off_ending).finished == [0, 1]


def test_after_an_ending_that_is_cut_off_the_run_can_go_on(cut_off_ending, unbroken):
    assert gm_jax("condense", *LONGER, "--out", cut_off_ending, "--resume")[0] == 0
    evaluated = results(unbroken)
    del evaluated["evaluation.json"]
    assert results(cut_off_ending) == evaluated


def test_where_no_iteration_is_done_there_is_no_end(halfway):
    """As after a signal in the first iteration, if every set diverged in it."""
    about = reading.read_about(halfway)
    start = start_sets(reading.config_of(about), load("digits")).state
    checkpoints.discard(halfway)
    checkpoints.save(halfway, start, run_folder.identity(about))
    assert_refused(gm_jax("finish", halfway), "has no iteration to end at")
    assert reading.read_about(halfway) == about
    assert checkpoints.numbers(halfway) == [0]
    assert not run_folder.finished(halfway)


@pytest.mark.slow
def test_an_ended_run_says_which_sets_diverged(tmp_path):
    two = [*LONGER, "--seeds", 1, "--image-lr", 0.1, 9e29, "--out", tmp_path / "run"]
    with interrupting(2, signal.SIGTERM):
        assert gm_jax("condense", *two)[0] == 143
    status, out, err = gm_jax("finish", tmp_path / "run")
    assert (status, out) == (2, "")
    assert "diverged" in err
    condensed = reading.load_condensed(tmp_path / "run")
    assert (condensed.finished, condensed.diverged) == ([0], [1])


def test_a_snapshot_of_the_last_iteration_is_shown_once(halfway):
    """The last good checkpoint is of iteration 2, after which a snapshot was taken."""
    spoil(halfway / "checkpoints" / "0000003.npz")
    status, out, err = gm_jax("finish", halfway)
    assert (status, out.split(":")[0]) == (0, "finished after 2 of 5 iterations")
    assert "checkpoint 3" in err
    assert snapshots.read(halfway).iterations.tolist() == [1, 2]
    along = images_along(reading.load_condensed(halfway), snapshots.read(halfway))
    assert along.iterations == [1, 2]
    assert {len(pictures) for _, pictures in along.rows} == {2}


def test_what_cannot_be_ended_is_refused(halfway, unbroken, tmp_path, monkeypatch):
    assert_refused(gm_jax("finish", tmp_path / "none"), "config.json")
    assert_refused(gm_jax("finish", unbroken / "synthetic.npz"), "is a file")
    with filelock.FileLock(halfway / locking.LOCK):
        assert_refused(gm_jax("finish", halfway), "is in use")
    digits = load("digits")
    changed = digits.train._replace(images=digits.train.images.at[3, 0, 0, 0, 0].add(1))
    with monkeypatch.context() as patch:
        patch.setattr(condense, "load", lambda *_: digits._replace(train=changed))
        assert_refused(gm_jax("finish", halfway), "other images")
    for path in (halfway / "checkpoints").glob("*.npz"):
        path.unlink()
    assert_refused(gm_jax("finish", halfway), "has no iteration to end at")
    assert not run_folder.finished(halfway)


def spoil(path):
    contents = bytearray(path.read_bytes())
    contents[len(contents) // 2] ^= 1
    path.write_bytes(contents)


def test_spoiled_checkpoints_are_passed_over(halfway, unbroken, tmp_path):
    """Of two checkpoints the last is tried first; with none left, the run is not started again."""
    shutil.copytree(halfway, tmp_path / "foreign")
    spoil(halfway / "checkpoints" / "0000003.npz")
    status, _, err = gm_jax("condense", *LONGER, "--out", halfway, "--resume")
    assert status == 0
    assert "checkpoint 3" in err
    assert "resumes at iteration 2 of 5" in err
    evaluation = results(unbroken)
    del evaluation["evaluation.json"]
    assert results(halfway) == evaluation

    foreign = tmp_path / "foreign"
    for path in (foreign / "checkpoints").glob("*.npz"):
        with np.load(path) as held:
            about = str(held["about"]).replace('"ipc": 2', '"ipc": 3')
            np.savez(path, **dict(held) | {"about": np.array(about)})
    status, out, err = gm_jax("condense", *LONGER, "--out", foreign, "--resume")
    assert (status, out) == (2, "")
    assert "another run" in err
    assert "no checkpoint" in err.splitlines()[-1]
    assert checkpoints.numbers(foreign) == [2, 3]


@pytest.mark.parametrize("cut", [0, 30])
def test_metrics_that_were_changed_are_noticed(halfway, cut):
    path = halfway / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:cut])
    status, _, err = gm_jax("condense", *LONGER, "--out", halfway, "--resume")
    assert status == 2
    assert "metrics.jsonl was changed" in err


def test_a_folder_in_use_is_left_alone(unbroken, tmp_path):
    with filelock.FileLock(unbroken / locking.LOCK):
        refused = gm_jax("condense", *LONGER, "--out", unbroken, "--replace")
        assert_refused(refused, "is in use")
    assert run_folder.finished(unbroken)


@pytest.mark.slow
def test_a_replaced_run_stays_until_the_new_one_is_finished(unbroken, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(unbroken, folder)
    command = [*LONGER, "--seed", 9, "--out", folder]
    with interrupting(0, signal.SIGTERM):
        assert gm_jax("condense", *command, "--replace")[0] == 143
    assert results(folder / "replaced") == results(unbroken)
    assert_refused(gm_jax("show", folder), "has not finished", str(folder / "replaced"))
    assert gm_jax("show", folder / "replaced")[0] == 0
    assert gm_jax("condense", *command, "--resume")[0] == 0
    assert not (folder / "replaced").exists()
    assert reading.load_condensed(folder).config.seed == 9


def cut_off_while_set_aside(folder, moves, monkeypatch):
    """Begins to replace a finished run, and fails after so many moves of its files."""
    about, replace, left = reading.read_about(folder), os.replace, [moves]

    def cut_off(*paths):
        left[0] -= 1
        if left[0] < 0:
            raise OSError("cut off")
        replace(*paths)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", cut_off)
        with pytest.raises(OSError, match="cut off"):
            replacing.create(folder, about)
    return about


@pytest.mark.parametrize("moves", range(5))
def test_a_run_that_is_cut_off_while_set_aside_is_not_lost(unbroken, tmp_path, monkeypatch, moves):
    """After any number of its files were moved, the next attempt has it whole in replaced/."""
    folder = shutil.copytree(unbroken, tmp_path / "run")
    about = cut_off_while_set_aside(folder, moves, monkeypatch)
    assert run_folder.finished(folder) or run_folder.finished(folder / "replaced")
    with locking.locked(folder):
        replacing.create(folder, about)
    assert results(folder / "replaced") == results(unbroken)


@pytest.mark.parametrize("moves", range(5))
def test_a_run_that_is_cut_off_while_set_aside_can_stay(unbroken, tmp_path, monkeypatch, moves):
    """`--resume` of the run that was to be replaced finds all of its files where they were."""
    folder = shutil.copytree(unbroken, tmp_path / "run")
    cut_off_while_set_aside(folder, moves, monkeypatch)
    if run_folder.finished(folder):
        status, _, err = gm_jax("condense", *LONGER, "--out", folder, "--resume")
        assert (status, err.splitlines()[-1]) == (0, f"{folder} is finished: nothing to resume")
        assert results(folder) == results(unbroken)
        assert not (folder / "replaced").exists()


@pytest.mark.slow
def test_a_run_killed_before_its_first_file_was_whole(tmp_path):
    """A draft of config.json and the lock are all there is: the same command begins."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / locking.LOCK).touch()
    (folder / ".config.json.123.draft.json").write_text("{")
    assert gm_jax("condense", *SMALL, "--iterations", 1, "--out", folder, "--resume")[0] == 0
    assert {p.name for p in folder.iterdir()} < {*run_folder.FILES, locking.LOCK}


@pytest.mark.parametrize(
    "name",
    [
        "100% #1?",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("a[b]", "back\\slash", "gs:")),
    ],
)
def test_runs_in_folders_of_any_name_are_resumed(tmp_path, stopped, name):
    folder = shutil.copytree(stopped, tmp_path / name)
    status, _, err = gm_jax("condense", *LONGER, "--out", folder, "--resume")
    assert status == 0
    assert "resumes at iteration 3" in err


@pytest.mark.slow
def test_files_of_others_among_the_checkpoints_stay(halfway):
    (halfway / "checkpoints" / "notes.txt").write_text("mine")
    (halfway / "checkpoints" / "5.npz").write_text("{}")
    assert gm_jax("condense", *LONGER, "--out", halfway, "--resume")[0] == 0
    left = sorted(path.name for path in (halfway / "checkpoints").iterdir())
    assert left == ["5.npz", "notes.txt"]


@pytest.mark.parametrize("held", ["5", "null", "[[1]]", "{}", '{"mine": 1}'])
def test_foreign_json_is_no_run(tmp_path, held):
    (tmp_path / "config.json").write_text(held)
    assert_refused(gm_jax("condense", *SMALL, "--out", tmp_path, "--replace"), "holds no run")
    assert_refused(gm_jax("condense", *SMALL, "--out", tmp_path, "--resume"), "holds no run")
    assert (tmp_path / "config.json").read_text() == held


@pytest.mark.parametrize(
    "change",
    [
        {"platform": None},
        {"versions": 3},
        {"continued": {"a": 1}},
        {"continued": [1]},
        {"data": {}},
        {"planned_iterations": 4},
        {"planned_iterations": 5.5},
    ],
)
def test_a_changed_config_json_is_not_resumed(halfway, change):
    path = halfway / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    refused = gm_jax("condense", *LONGER, "--out", halfway, "--resume")
    assert_refused(refused, "config.json is damaged")


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999"])
def test_a_number_that_is_not_finite_is_damage_also_where_nobody_reads_it(halfway, number):
    """Python's reader of JSON takes it, but the new config.json could not hold it."""
    path = halfway / "config.json"
    path.write_text(path.read_text().replace("{", '{"unknown": ' + number + ",", 1))
    assert_refused(gm_jax("finish", halfway), "config.json is damaged")
    assert_refused(gm_jax("condense", *LONGER, "--out", halfway, "--resume"), "holds no run")


def test_a_signal_that_is_ignored_stays_so(tmp_path):
    """As under nohup."""
    with interrupting(0, signal.SIGINT):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        assert gm_jax("condense", *SMALL, "--out", tmp_path / "run")[0] == 0


@pytest.mark.slow
def test_nobody_need_listen_to_a_run_that_is_stopped(tmp_path):
    """Standard error is a pipe whose reader is gone, as when Ctrl-C ends `2>&1 | tee log` too."""
    command = [*SMALL, "--iterations", 10000, "--out", tmp_path / "run"]
    process = subprocess.Popen(
        [sys.executable, "-m", "gm_jax", "condense", *map(str, command)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not process.stderr.readline().startswith("memory: "):
        assert process.poll() is None
    process.stderr.close()
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 143
    assert checkpoints.numbers(tmp_path / "run")


@pytest.mark.slow
def test_a_replaced_run_stays_if_the_new_one_diverges(unbroken, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(unbroken, folder)
    command = [*SMALL, "--seeds", 1, "--image-lr", 1e29, "--out", folder]
    for how in ("--replace", "--resume"):
        status, _, err = gm_jax("condense", *command, how)
        assert status == 2
        assert "diverged: set 0 at iteration 0" in err.splitlines()[-1]
        assert results(folder / "replaced") == results(unbroken)
    # nor does the one after that have its place, however often it takes until one does not diverge
    replacing.create(folder, reading.read_about(folder))
    assert not run_folder.finished(folder)
    assert results(folder / "replaced") == results(unbroken)


# --- disk full ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_no_more_room_ends_in_one_line_and_the_last_checkpoint_stays(halfway, unbroken):
    """Files are limited to 1 kB, less than a checkpoint or the metrics need."""
    code = (
        "import resource, sys; from gm_jax.cli.main import main; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)); sys.exit(main(sys.argv[1:]))"
    )
    command = ["condense", *LONGER, "--out", halfway, "--resume"]
    refused = subprocess.run(
        [sys.executable, "-c", code, *map(str, command)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 2
    last = refused.stderr.splitlines()[-1]
    assert last.startswith(f"gm-jax: {halfway} cannot be written: ")
    assert "3 iterations are kept" in last
    assert "Traceback" not in refused.stderr
    assert checkpoints.numbers(halfway) == [2, 3]
    assert gm_jax("condense", *LONGER, "--out", halfway, "--resume")[0] == 0
    expected = results(unbroken)
    del expected["evaluation.json"]
    assert results(halfway) == expected


# --- divergence -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_set_that_diverges_is_left_behind_and_the_others_go_on(tmp_path):
    """The set of --image-lr 0.1 is what it is alone; that of 1e25 stays as it began."""
    one = [*SMALL, "--seeds", 1, "--iterations", 3]
    folder = tmp_path / "two"
    status, out, err = gm_jax("condense", *one, "--image-lr", 0.1, 1e25, "--out", folder)
    assert (status, out) == (2, "")
    last = err.splitlines()[-1]
    assert last.startswith("gm-jax: diverged: set 1 at iteration 0; the other sets are finished; ")
    assert "set 1 (seed 7): the " in last
    assert last.endswith("of iteration 0: try a smaller --image-lr than 1e+25")
    both = reading.load_condensed(folder)
    assert both.iterations.tolist() == [3, 0]
    assert both.finished == [0]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [(line["iteration"], line["image_lr"]) for line in lines] == [
        (0, 0.1),
        (1, 0.1),
        (2, 0.1),
    ]
    assert gm_jax("condense", *one, "--image-lr", 0.1, "--out", tmp_path / "one")[0] == 0
    alone = reading.load_condensed(tmp_path / "one")
    np.testing.assert_allclose(both.images[0], alone.images[0], rtol=1e-4, atol=1e-5)

    status, shown, err = gm_jax("evaluate", folder, "--count", 1, "--epochs", 1)
    assert status == 0
    assert "set 1 of" in err
    assert "diverged at iteration 0: left out" in err
    assert "condensed, image_lr 0.1" in shown
    assert "1e+25" not in shown
    status, out, err = gm_jax("export", folder, "--out", tmp_path / "png")
    assert status == 0
    assert sorted(p.name for p in (tmp_path / "png").iterdir()) == ["images.npz", "set0"]


@pytest.mark.slow
def test_a_run_that_diverges_keeps_its_last_good_images(tmp_path):
    folder = tmp_path / "run"
    status, _, err = gm_jax("condense", *SMALL, "--image-lr", 1e29, "--out", folder)
    assert status == 2
    assert "diverged: set 0 at iteration 0, set 1 at iteration 0; " in err.splitlines()[-1]
    refused = gm_jax("condense", *SMALL, "--image-lr", 1e29, "--out", folder, "--resume")
    assert_refused(refused, "diverged: set 0")
    assert reading.load_condensed(folder).finished == []
    status, _, err = gm_jax("evaluate", folder)
    assert status == 2
    assert "every set diverged" in err
    assert gm_jax("show", folder)[0] == 0


# --- where a result comes from --------------------------------------------------------------------


@pytest.mark.slow
def test_other_data_than_it_was_condensed_from_is_said(unbroken, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    shutil.copytree(unbroken, folder)
    few = ["--count", 1, "--epochs", 1, "--skip-random-real"]
    status, shown, err = gm_jax("evaluate", folder, *few)
    assert status == 0
    assert "other data" not in err
    assert "random real" not in shown
    digits = load("digits")
    own = tmp_path / "own.npz"
    images = np.asarray(digits.train.images)[:, :100].reshape(-1, 8, 8, 1)
    np.savez(own, images=images, labels=np.repeat(np.arange(10), 100))
    status, _, err = gm_jax("evaluate", folder, *few, "--dataset", own)
    assert status == 0
    assert "is evaluated on other data than it was condensed from" in err
    assert "the train and test images" in err
    ran = json.loads((folder / "evaluation.json").read_text())["ran"]
    assert ran["data"]["name"] == str(own)
    assert ran["data"]["train"] != reading.read_about(folder)["data"]["train"]


def test_config_json_says_where_a_run_comes_from(unbroken):
    about = reading.read_about(unbroken)
    assert about["platform"]["backend"] == "cpu"
    assert about["data"]["counts"] == np.asarray(load("digits").train.counts).tolist()
    assert len(about["data"]["train"]) == len(about["data"]["test"]) == 64
    assert about["continued"] == []


def test_a_digest_is_of_values_types_and_shapes():
    """SHA-256 of 'dtype shape ' and the bytes, by hand."""
    import hashlib

    by_hand = hashlib.sha256(b"|u1 (2,) \x01\x02").hexdigest()
    assert provenance.sha256(np.array([1, 2], np.uint8)) == by_hand
    others = [np.array([2, 1], np.uint8), np.array([[1, 2]], np.uint8), np.array([1, 2], np.int8)]
    assert by_hand not in [provenance.sha256(other) for other in others]


def test_the_commit_is_of_the_package_and_of_nothing_around_it(tmp_path):
    """A package in a git repository, changed, and one that only lies in somebody's."""
    package = tmp_path / "gm_jax"
    package.mkdir()
    (package / "__init__.py").write_text("")
    assert provenance.commit(package) is None

    def git(*arguments):
        who = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
        done = subprocess.run(
            ["git", "-C", tmp_path, *who, *arguments], check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    git("init")
    git("commit", "--allow-empty", "-m", "theirs")
    assert provenance.commit(package) is None
    git("add", ".")
    git("commit", "-m", "ours")
    assert provenance.commit(package) == git("rev-parse", "HEAD")
    (package / "__init__.py").write_text("changed = True")
    assert provenance.commit(package) == git("rev-parse", "HEAD") + "-dirty"
