"""Reading run folders, and their files wherever they lie: everything is validated."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from gm_jax import checks
from gm_jax.condensed import Condensed
from gm_jax.config import Config, check, list_sets
from gm_jax.data import archives
from gm_jax.errors import UserError
from gm_jax.storage.files import parse_json, read_json
from gm_jax.storage.run_folder import PLANNED, READ, finished, results_path
from gm_jax.variants import VariantRecord

SCORES = ("hlr", "ior", "lrs", "ars")
"""DD-Ranking's scores, as evaluation.json names them."""


def read_about(run: Path) -> dict[str, Any]:
    """What the config.json of a run folder holds; see `describe`.

    A synthetic.npz, by whatever name it lies elsewhere, holds the same.

    Raises:
        UserError: it cannot be read, is damaged, or of another version.
    """
    path = run if run.is_file() else run / "config.json"
    held = _archived_about(path) if run.is_file() else read_json(path)
    try:
        about = _current(held)
        config_of(about)
        _check_about(about)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except Exception as error:
        raise UserError(f"{path} is damaged or was not written by gm-jax condense") from error
    return about


def _archived_about(path: Path) -> Any:
    """What the archive holds as `config`, whatever that is."""
    try:
        return parse_json(str(archives.read_npz(path)["config"]))
    except (KeyError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged or was not written by gm-jax condense") from error


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl: what each iteration logged of each set.

    Raises:
        UserError: it cannot be read, or is damaged.
    """
    path = folder / "metrics.jsonl"
    try:
        rows = list(map(json.loads, path.read_text().splitlines()))
        for row in rows:
            numbers = [row[name] for name in ("iteration", "loss", "intra", "inter", "seconds")]
            _ = sum(map(float, numbers)) + sum(row["inner_epochs"])
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise UserError(f"{path} is damaged") from error
    return rows


def read_results(run: Path) -> dict[str, Any]:
    """What an evaluation found, by network and by what it was trained on; nothing if there is none.

    Raises:
        UserError: it is damaged.
    """
    path = results_path(run)
    if not path.exists():
        return {}
    results = read_json(path)
    try:
        _check_results(results)
    except Exception as error:  # whatever a changed file makes of it
        raise UserError(f"{path} is damaged: evaluate again, or delete it") from error
    return results


def _check_results(results: Any) -> None:
    """Raises an exception of some kind unless all is there that is read of it."""
    _ = results["ran"].get("protocol")  # gm_jax 0.1 had only one
    for of in (of for network, of in results.items() if network != "ran"):
        _ = of["protocol"]["epochs"] + 0
        for found in (found for kind, found in of.items() if kind != "protocol"):
            sets, networks = np.asarray(found["accuracies"], float).shape
            scores = [found["scores"][name] for name in SCORES] if "scores" in found else []
            if not (
                sets and networks and np.isfinite([found["mean"], found["std"], *scores]).all()
            ):
                raise ValueError("no accuracies")


def _current(about: dict[str, Any]) -> dict[str, Any]:
    """`about` as this version would have written it; its format stays what it was.

    Raises:
        UserError: another version wrote it, whose layout is not read.
    """
    if about["format"] not in READ:
        writer = f"gm_jax {about['versions']['gm_jax']}"
        raise UserError(f"format {about['format']}, written by {writer}; this version reads {READ}")
    if about["format"] == 3:
        settings = dict(about["settings"])
        settings["set_chunk"] = settings.pop("seed_chunk")
        return about | {"settings": settings, "variant": None}
    return about


def _check_about(about: dict[str, Any]) -> None:
    """Raises an exception of some kind unless all is there that `describe` writes."""
    if not isinstance(about["continued"], list):
        raise TypeError("continued is no list")
    for ran in (about, *about["continued"]):
        _ = ({**ran["versions"], **ran["platform"]}, ran["commit"], ran["platform"]["device"])
    _ = sum(about["data"]["counts"]), [later["iteration"] for later in about["continued"]]
    if not all(isinstance(about["data"][part], str) for part in ("name", "train", "test")):
        raise TypeError("data are no strings")
    if not isinstance(about.get("recipe"), str | None):
        raise TypeError("the recipe is no text")
    done, planned = about["settings"]["iterations"], about.get(PLANNED)
    if planned is not None and not (type(planned) is int and planned >= done):
        raise ValueError(f"{PLANNED} is no such number")
    variant_of(about)


def config_of(about: dict[str, Any]) -> Config:
    """The settings of config.json; `UserError`, or another exception, if they are none."""
    settings: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in about["settings"].items()
    }
    checks.check_fields(Config, settings)
    config = Config(**settings)
    check(config)
    return config


def variant_of(about: dict[str, Any]) -> VariantRecord | None:
    """The record of a run's variant, in what its config.json holds."""
    if about["variant"] is None:
        return None
    record = VariantRecord(**about["variant"])
    if not isinstance(record.name, str) or not isinstance(record.sha256, str | None):
        raise TypeError("the variant is no text")
    return record


def load_condensed(run: Path | str) -> Condensed:
    """The condensed sets of a run folder, or of its synthetic.npz wherever that lies.

    Raises:
        UserError: no such folder or file, not a finished run, or a file that is truncated, of
            another version, or not what `write_condensed` writes.
    """
    path = _synthetic(Path(run))
    arrays = archives.read_npz(path)
    try:
        return _condensed_from(arrays)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except Exception as error:  # whatever a foreign file makes its readers raise
        raise UserError(f"{path} is damaged or was not written by gm-jax condense") from error


def _synthetic(run: Path) -> Path:
    """The file that holds a run's sets; `UserError` if there is none."""
    if run.is_file():
        return run
    if not run.is_dir():
        raise UserError(f"{run} is no folder: name the one that condense wrote")
    if not finished(run):
        why = "that run has not finished" if (run / "config.json").exists() else "it is no run"
        before = run / "replaced"
        kept = f"; the one before it is in {before}" if finished(before) else ""
        raise UserError(f"{run} holds no synthetic.npz: {why}{kept}")
    return run / "synthetic.npz"


def _condensed_from(arrays: dict[str, np.ndarray]) -> Condensed:
    about = _current(parse_json(str(arrays["config"])))
    config = config_of(about)
    _check_about(about)
    found = Condensed(
        images=arrays["images"],
        labels=arrays["labels"],
        mean=np.asarray(arrays["mean"], np.float32),
        std=np.asarray(arrays["std"], np.float32),
        class_names=tuple(str(name) for name in arrays["class_names"]),
        iterations=arrays["iterations"],
        config=config,
        variant=variant_of(about),
        learned=arrays.get("learned"),
    )
    _check_labels(found)
    _check_learned(found)
    _check_pixels(found)
    return found


def _check_labels(found: Condensed) -> None:
    """Raises `UserError` unless images and labels are as many of each class, class after class."""
    images, labels, classes = found.images, found.labels, len(found.class_names)
    each = len(labels) // classes
    expected = (len(list_sets(found.config)), classes * each)
    if images.dtype != np.float32 or images.ndim != 5 or images.shape[:2] != expected:
        raise UserError(f"images are {images.dtype} {images.shape}, expected float32 {expected}..")
    if labels.dtype != np.int32 or not np.array_equal(labels, np.repeat(np.arange(classes), each)):
        raise UserError(f"labels are not {each} of each of {classes} classes in order")


def _check_learned(found: Condensed) -> None:
    """Raises `UserError` unless what was learned is as many of each class as the settings say."""
    learned, ipc = found.learned, found.config.ipc
    expected = (len(found.images), len(found.class_names), ipc)
    if learned is None:
        if len(found.labels) != ipc * len(found.class_names):
            raise UserError(f"labels are {len(found.labels)}, expected {ipc} of each class")
    elif learned.dtype != np.float32 or learned.shape[:3] != expected:
        shape = f"{learned.dtype} {learned.shape}"
        raise UserError(f"what was learned is {shape}, expected float32 {expected}..")
    elif not np.isfinite(learned).all():
        raise UserError("what was learned is not finite")


def _check_pixels(found: Condensed) -> None:
    """Raises `UserError` unless pixels, their statistics and the iterations can be worked with."""
    images, mean, std, done = found.images, found.mean, found.std, found.iterations
    channel = images.shape[-1]
    if channel not in (1, 3) or mean.shape != (channel,) or std.shape != (channel,):
        raise UserError(f"{channel} channels, mean {mean.shape}, std {std.shape}: must be 1 or 3")
    if not all(np.isfinite(a).all() for a in (images, mean, std)) or not (std > 0).all():
        raise UserError("images, mean or std are not finite, or std is not above 0")
    if done.dtype != np.int32 or done.shape != images.shape[:1]:
        raise UserError(f"iterations are {done.dtype} {done.shape}, expected int32 of each set")
    if not 0 <= done.min() <= done.max() <= found.config.iterations:
        raise UserError(f"iterations must be 0 to {found.config.iterations}")
