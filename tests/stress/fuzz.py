"""Thousands of bad inputs: each must be refused in one clear line, or be as valid as a good one.

    python -m tests.stress.fuzz                  # 500 of each kind
    python -m tests.stress.fuzz --examples 20

Every reader of files is given files that Hypothesis generates or damages.  It may refuse one with a
`UserError` of a single line, which the command line shows with exit status 2; or accept it, if what
it read is valid (a flipped bit that does not matter, arrays that happen to fit, the checkpoint
before a damaged one).  Anything else is a fault, and shown.
"""

import dataclasses
import io
import json
import logging
import pickle
import shutil
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from experiments import command
from gm_jax import api
from gm_jax.build import start_sets
from gm_jax.checks import SEED, Count
from gm_jax.cli.terminal import say
from gm_jax.condensed import Condensed
from gm_jax.config import Config
from gm_jax.data.images import Dataset
from gm_jax.data.loading import load
from gm_jax.errors import UserError
from gm_jax.report import run as report
from gm_jax.storage import checkpoints, locking, pt_file, reading, replacing, run_folder, snapshots

CONFIG = Config(dataset="digits", ipc=1, iterations=3, width=4, depth=1)
"""The run whose files are damaged."""

LAST = "run/checkpoints/0000002.npz"
"""Its last checkpoint."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """How many bad inputs."""

    examples: Count = 500
    """Of each kind."""
    seed: Annotated[int, SEED] = 0
    """Of the inputs."""


class Kind(NamedTuple):
    """A kind of bad input.

    Attributes:
        inputs: what is drawn.
        make: `(folder, drawn)`, writes it.
        read: `folder -> what was read`.
        valid: whether what was read is valid.
    """

    inputs: st.SearchStrategy
    make: Callable[[Path, Any], None]
    read: Callable[[Path], Any]
    valid: Callable[[Any], bool]


class Outcomes(NamedTuple):
    """How many inputs of a kind were tried, refused, and accepted as valid; and the faults."""

    tried: int
    refused: int
    valid: int
    faults: tuple[str, ...]


# --- what is drawn --------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)

ARRAYS = hnp.arrays(
    st.sampled_from(["u1", "i4", "i8", "u8", "f4", "f8", "?", "c8", "U3", "M8[s]", "S2"]),
    hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=5),
)

DAMAGE = st.tuples(
    st.sampled_from(["flip", "cut", "insert", "replace"]),
    st.floats(0, 1, exclude_max=True),
    st.binary(min_size=1, max_size=16),
)
"""How a file is damaged, where, with which bytes."""


def damaged(contents: bytes, drawn: tuple[str, float, bytes]) -> bytes:
    """The contents of a file after the damage."""
    how, where, noise = drawn
    at = int(where * len(contents))
    if how == "cut":
        return contents[:at]
    if how == "insert":
        return contents[:at] + noise + contents[at:]
    if how == "replace":
        return contents[:at] + noise + contents[at + len(noise) :]
    flipped = contents[at] ^ (1 << noise[0] % 8) if contents else 0
    return contents[:at] + bytes([flipped]) + contents[at + 1 :]


# --- how it is written: `(folder of good files, drawn)` -------------------------------------------


def damage(name: str) -> Callable[[Path, Any], None]:
    """Damages a file."""

    def make(folder: Path, drawn: tuple[str, float, bytes]) -> None:
        path = folder / name
        path.write_bytes(damaged(path.read_bytes(), drawn))

    return make


def other_arrays(name: str) -> Callable[[Path, Any], None]:
    """Replaces some arrays of an archive."""

    def make(folder: Path, drawn: dict[str, np.ndarray]) -> None:
        np.savez(folder / name, **_arrays(folder / name) | drawn)

    return make


def other_json(name: str) -> Callable[[Path, Any], None]:
    """Replaces a file by any JSON."""
    return lambda folder, drawn: (folder / name).write_text(json.dumps(drawn))


def other_settings(folder: Path, drawn: dict[str, Any]) -> None:
    """Changes the settings that a run's images were condensed with."""
    _change_about(folder, lambda about: {"settings": about["settings"] | drawn})


def other_variant(folder: Path, drawn: Any) -> None:
    """Changes the record of the variant that a run's images were condensed with."""
    _change_about(folder, lambda about: {"variant": drawn})


def _change_about(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    held = _arrays(folder / "run/synthetic.npz")
    about = json.loads(str(held["config"]))
    held["config"] = np.array(json.dumps(about | change(about)))
    np.savez(folder / "run/synthetic.npz", allow_pickle=False, **held)


def other_checkpoints(folder: Path, drawn: list[tuple[float, tuple]]) -> None:
    """Damages some of a run's checkpoints."""
    files = sorted((folder / "run/checkpoints").iterdir())
    for where, how in drawn:
        path = files[int(where * len(files))]
        path.write_bytes(damaged(path.read_bytes(), how))


def bomb(folder: Path, drawn: tuple[int, str]) -> None:
    """An archive whose header states a size that it does not hold."""
    size, name = drawn
    with zipfile.ZipFile(folder / "own.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        header = io.BytesIO()
        shape = {"descr": "|u1", "fortran_order": False, "shape": (size, 1000, 1000)}
        np.lib.format.write_array_header_1_0(header, shape)
        archive.writestr(f"{name}.npy", header.getvalue() + bytes(1000))


def pickled(folder: Path, drawn: Any) -> None:
    """A `.pt` file that holds something else."""
    (folder / "sets.pt").write_bytes(pickle.dumps(drawn, 2))


def _arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as held:
        return dict(held)


# --- the kinds ------------------------------------------------------------------------------------


def kinds(good: Path) -> dict[str, Kind]:
    """Every kind, by name, given a folder of good files: see `good_files`."""
    of_sets = sets_kinds(_arrays(good / "run/synthetic.npz"))
    of_checkpoints = checkpoint_kinds(_arrays(good / LAST))
    of_run = run_kinds(_arrays(good / "run/snapshots.npz"))
    return of_sets | of_checkpoints | of_run | data_kinds() | pt_kinds()


def changed(names: Iterable[str]) -> st.SearchStrategy:
    """Other arrays under some of the names."""
    return st.dictionaries(st.sampled_from(sorted(names)), ARRAYS, min_size=1)


def sets_kinds(held: dict[str, np.ndarray]) -> dict[str, Kind]:
    """Condensed sets, given the arrays of good ones."""
    name, read = "run/synthetic.npz", lambda folder: reading.load_condensed(folder / "run")
    settings_of = json.loads(str(held["config"]))["settings"]
    wrong = st.dictionaries(st.sampled_from(sorted(settings_of)), JSON, min_size=1)
    return {
        "synthetic.npz, damaged": Kind(DAMAGE, damage(name), read, _good_sets),
        "synthetic.npz, other arrays": Kind(changed(held), other_arrays(name), read, _good_sets),
        "synthetic.npz, other settings": Kind(wrong, other_settings, read, _good_sets),
        "synthetic.npz, other variant": Kind(_variants(), other_variant, read, _good_sets),
    }


def _variants() -> st.SearchStrategy:
    record = st.fixed_dictionaries({"name": JSON}, optional={"sha256": JSON, "more": JSON})
    return JSON | record


def checkpoint_kinds(held: dict[str, np.ndarray]) -> dict[str, Kind]:
    """Checkpoints, given the arrays of a good one."""
    finite = lambda state: state is not None and bool(np.isfinite(state.images).all())
    damages = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), DAMAGE), min_size=1, max_size=9)
    return {
        "checkpoints, damaged": Kind(damages, other_checkpoints, _restored, finite),
        "checkpoint, other arrays": Kind(changed(held), other_arrays(LAST), _restored, finite),
    }


def run_kinds(snapshots: dict[str, np.ndarray]) -> dict[str, Kind]:
    """The other files of a run folder, given the arrays of good snapshots."""
    about = lambda folder: reading.read_about(folder / "run")
    current = lambda found: found["format"] in run_folder.READ
    config, evaluation, metrics = "run/config.json", "run/evaluation.json", "run/metrics.jsonl"
    images = "run/snapshots.npz"
    return {
        "config.json, damaged": Kind(DAMAGE, damage(config), about, current),
        "config.json, other JSON": Kind(JSON, other_json(config), about, current),
        "evaluation.json, other JSON": Kind(_results(), other_json(evaluation), _reported, _whole),
        "metrics.jsonl, damaged": Kind(DAMAGE, damage(metrics), _reported, _whole),
        "metrics.jsonl, other JSON": Kind(_rows(), other_json(metrics), _reported, _whole),
        "snapshots.npz, damaged": Kind(DAMAGE, damage(images), _reported, _whole),
        "snapshots.npz, other arrays": Kind(
            changed(snapshots), other_arrays(images), _reported, _whole
        ),
    }


def _results() -> st.SearchStrategy:
    """What may stand in evaluation.json, part of it as it should."""
    accuracies = st.lists(st.lists(st.floats(0, 1), min_size=2, max_size=2)) | JSON
    scores = st.dictionaries(st.sampled_from(["hlr", "ior", "lrs", "ars"]), st.floats() | JSON)
    found = {"accuracies": accuracies, "mean": st.floats() | JSON, "std": st.just(1.0) | JSON}
    kind = st.fixed_dictionaries(found, optional={"scores": scores})
    protocol = st.fixed_dictionaries({"epochs": st.integers() | JSON}) | JSON
    network = st.fixed_dictionaries({"protocol": protocol, "condensed": kind | JSON}) | JSON
    ran = st.fixed_dictionaries({"protocol": st.text(max_size=8) | JSON}) | JSON
    return JSON | st.fixed_dictionaries({"convnet": network, "ran": ran})


def _rows() -> st.SearchStrategy:
    """What may stand in a line of metrics.jsonl, part of it as it should."""
    numbers = ("iteration", "seed", "loss", "intra", "inter", "seconds")
    names = {name: st.integers(-1, 3) | st.floats() | JSON for name in numbers}
    return JSON | st.fixed_dictionaries(names | {"inner_epochs": st.lists(st.integers()) | JSON})


def _reported(folder: Path) -> str:
    found = report.gather(folder / "run")
    report.write(found, folder / "report.html")
    return (folder / "report.html").read_text()


def _whole(page: str) -> bool:
    return page.rstrip().endswith("</html>") and page.count("<h2>") >= 5


def data_kinds() -> dict[str, Kind]:
    """Data sets of a user's own."""
    own = lambda folder: load(str(folder / "own.npz"))
    pictures = lambda folder: load(str(folder / "pictures"), 8)
    names = ("images", "labels", "class_names")
    sizes = st.tuples(st.integers(0, 2**40), st.sampled_from(["images", "labels", "x"]))
    return {
        "own .npz, damaged": Kind(DAMAGE, damage("own.npz"), own, _good_data),
        "own .npz, other arrays": Kind(changed(names), other_arrays("own.npz"), own, _good_data),
        "own .npz, a bomb": Kind(sizes, bomb, own, lambda found: False),
        "picture, damaged": Kind(DAMAGE, damage("pictures/a/0.png"), pictures, _good_data),
    }


def pt_kinds() -> dict[str, Kind]:
    """Files of the PyTorch programs."""
    digits = load("digits")
    read = lambda folder: pt_file.read(folder / "sets.pt", digits)
    contents = JSON.map(lambda value: {"data": value}) | JSON
    return {
        ".pt, damaged": Kind(DAMAGE, damage("sets.pt"), read, _good_sets),
        ".pt, other contents": Kind(contents, pickled, read, _good_sets),
    }


def _restored(folder: Path) -> Any:
    about = reading.read_about(folder / "run")
    start = start_sets(CONFIG, load("digits")).state
    return checkpoints.restore(folder / "run", start, run_folder.identity(about))


def _good_sets(found: Condensed) -> bool:
    shaped = found.images.dtype == np.float32 and found.images.ndim == 5
    return shaped and len(found.labels) == found.images.shape[1] and np.isfinite(found.images).all()


def _good_data(found: Dataset) -> bool:
    train = found.train
    counted = len(train.counts) == len(found.class_names) > 1 and int(train.counts.min()) > 0
    return counted and train.images.dtype == np.uint8 and len(found.test_labels) > 0


def good_files(folder: Path) -> None:
    """A run with checkpoints, an own `.npz`, a folder of pictures and, with PyTorch, a `.pt`."""
    condensed = _good_run(folder / "run")
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (20, 6, 6, 3)).astype(np.uint8)
    np.savez(folder / "own.npz", images=images, labels=np.arange(20) % 2, class_names=["a", "b"])
    for number, pixels in enumerate(images):
        path = folder / "pictures" / "ab"[number % 2] / f"{number // 2}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    try:
        pt_file.write(folder / "sets.pt", condensed, {"convnet": [0.5]})
    except UserError:
        say("PyTorch is not installed: .pt files are left out")


def _good_run(run: Path) -> Condensed:
    digits = load("digits")
    about = run_folder.describe(CONFIG, digits, None)
    state = start_sets(CONFIG, digits).state
    with locking.locked(run):
        replacing.create(run, about)
    for _ in range(2):
        state = state._replace(iteration=state.iteration + 1)
        checkpoints.save(run, state, run_folder.identity(about))
    last = state._replace(iteration=state.iteration + 1)
    condensed = api.finish(CONFIG, digits, last)
    snapshots.add(run, 1, snapshots.first_of_each(condensed))
    numbers = {"seed": 0, "loss": 2.0, "intra": 1.0, "inter": 1.0, "inner_epochs": [0]}
    rows = [{"iteration": at, **numbers, "seconds": 1.0 + at} for at in range(3)]
    run_folder.append_metrics(run, rows)
    run_folder.write_condensed(run, condensed, about)
    return condensed


# --- trying them ----------------------------------------------------------------------------------


def try_kind(kind: Kind, good: Path, examples: int, number: int) -> Outcomes:
    """The outcomes of a kind, each input in a fresh copy of the good files.

    Args:
        kind: of the inputs.
        good: folder of good files.
        examples: how many.
        number: seed of the inputs.
    """
    outcomes: list[str] = []

    @seed(number)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(kind.inputs)
    def one(drawn: Any) -> None:
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "files"
            shutil.copytree(good, copy)
            kind.make(copy, drawn)
            outcomes.append(_outcome(kind, copy, drawn))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of damaged pictures, and numbers that overflow
        one()
    faults = tuple(dict.fromkeys(o for o in outcomes if o not in ("refused", "valid")))
    return Outcomes(len(outcomes), outcomes.count("refused"), outcomes.count("valid"), faults)


def _outcome(kind: Kind, folder: Path, drawn: Any) -> str:
    try:
        found = kind.read(folder)
    except UserError as error:
        one_line = str(error) and len(str(error).splitlines()) == 1
        return "refused" if one_line else f"not one line: {str(error)!r:.200} ({drawn!r:.200})"
    except Exception as error:
        return f"{type(error).__name__}: {error!s:.200} ({drawn!r:.200})"
    return "valid" if kind.valid(found) else f"accepted though it is bad: {drawn!r:.200}"


def try_all(chosen: Settings) -> Iterator[tuple[str, Outcomes]]:
    """Each kind's name and outcomes."""
    with tempfile.TemporaryDirectory() as folder:
        good = Path(folder)
        good_files(good)
        for name, kind in kinds(good).items():
            if not name.startswith(".pt") or (good / "sets.pt").exists():
                yield name, try_kind(kind, good, chosen.examples, chosen.seed)


def work(chosen: Settings, _: str) -> None:
    """Tries all kinds, prints a table; fails if there was a fault."""
    logging.getLogger("gm_jax").setLevel(logging.ERROR)  # it warns of every checkpoint skipped
    total, faults = 0, 0
    print("| input | tried | refused in one line | accepted, and valid | faults |")
    print("|---|---|---|---|---|")
    for name, outcomes in try_all(chosen):
        cells = (name, outcomes.tried, outcomes.refused, outcomes.valid, len(outcomes.faults))
        print(f"| {' | '.join(map(str, cells))} |", flush=True)
        for fault in outcomes.faults:
            say(f"  {name}: {fault}")
        total, faults = total + outcomes.tried, faults + len(outcomes.faults)
    print(f"\n{total} bad inputs, {faults} faults")
    if faults:
        raise command.FailedError(f"{faults} faults")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status, 1 if there was a fault."""
    return command.main("tests.stress.fuzz", __doc__, Settings, work, arguments)


if __name__ == "__main__":
    sys.exit(main())
