"""Finished, evaluated runs as files to give away: arrays, a picture, and what they reached.

    python -m experiments.release best=results/recipes/cells/best_3_minutes --out docs/results/sets

A run becomes OUT/DATASET-NAME-ipcN.npz, which `gm_jax.load_condensed` and `gm-jax evaluate` read, a
.png of its first set, and a .json of its accuracy, settings and digest; OUT/README.md lists all
that are there.
"""

import dataclasses
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from experiments import command
from experiments.page import Table, shown
from experiments.sweep import read_run
from gm_jax.errors import UserError
from gm_jax.report.run import command_of
from gm_jax.storage import files, pictures, reading

FACTS = ("images", "method", "accuracy", "random_real", "networks", "iterations", "minutes")
"""What the list of all says of each, beside its file, command and digest."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """Which runs are released, and where to."""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional, command.SOME]
    """NAME=RUN: what a run's method is called, and its folder."""
    out: Path
    """Folder to write into; files of the same names are replaced."""


def make(settings: Settings, typed: str) -> None:
    """Writes the files of each run, then the list of all."""
    named = [_named(word) for word in settings.runs]
    about = [_about(name, run) for name, run in named]
    names = {path.stem for path in settings.out.glob("[!.]*.npz")} - {of["file"] for of in about}
    others = [_released(settings.out / f"{name}.json") for name in names]
    settings.out.mkdir(parents=True, exist_ok=True)
    for (_, run), facts in zip(named, about):
        path = settings.out / f"{facts['file']}.npz"
        with files.atomic(path) as draft:
            draft.write_bytes((run / "synthetic.npz").read_bytes())
        pictures.save_grid(path.with_suffix(".png"), reading.load_condensed(run))
        files.write_json(path.with_suffix(".json"), facts)
        print(path)
    text = _readme(sorted([*others, *about], key=lambda of: of["file"]), settings.out)
    with files.atomic(settings.out / "README.md") as draft:
        draft.write_text(text, encoding="utf-8")


def _released(path: Path) -> dict[str, Any]:
    """What was said of a set that was released before."""
    held = files.read_json(path)
    if not isinstance(held, dict) or not {*FACTS, "file", "command", "sha256"} <= set(held):
        raise UserError(f"{path} is not of a released set: name another --out")
    return held


def _named(word: str) -> tuple[str, Path]:
    name, equals, run = word.partition("=")
    if not (equals and name.isidentifier() and run):
        raise UserError(f"{word}: must be NAME=RUN")
    return name, Path(run)


def _about(name: str, run: Path) -> dict[str, Any]:
    """What is said of a run that is released."""
    condensed = reading.load_condensed(run)
    found = read_run(run)
    if len(found) != 1 or condensed.diverged:
        raise UserError(f"{run}: one network and no swept values can be released, none diverged")
    config, (one,) = condensed.config, found
    dataset = Path(config.dataset).name
    contents = (run / "synthetic.npz").read_bytes()
    results = reading.read_results(run)
    random, protocol = results[one.network].get("random real"), results["ran"].get("protocol")
    return {
        "file": f"{dataset}-{name}-ipc{config.ipc}",
        "images": f"{dataset}, ipc {config.ipc}",
        "method": name,
        "accuracy": shown(one),
        "random_real": "" if random is None else f"{random['mean']:.1f} ± {random['std']:.1f}",
        "networks": f"{one.accuracies.shape[1]} {one.network}s for each set, {one.epochs} epochs, "
        f"protocol {protocol}",
        "iterations": config.iterations,
        "minutes": round(one.seconds / 60, 1),
        "command": command_of(condensed, Path("RUN")),
        "sha256": hashlib.sha256(contents).hexdigest(),
    }


def _readme(released: Sequence[dict[str, Any]], out: Path) -> str:
    head = ["file", "images", "method", "test accuracy, %", "random real images, %"]
    head += ["networks", "iterations", "minutes"]
    rows = [
        [f"[{of['file']}.npz]({of['file']}.npz)"] + [str(of[name]) for name in FACTS]
        for of in released
    ]
    each = "\n\n".join(
        f"## {of['file']}\n\n![{of['images']}, {of['method']}]({of['file']}.png)\n\n"
        f"    {of['command']}\n\nSHA-256 `{of['sha256']}`."
        for of in released
    )
    first = out / f"{released[0]['file']}.npz"
    return f"""\
# Condensed sets

{Table(head, rows).markdown}

Test accuracy: mean ± standard deviation over all networks (sets), trained on the set, and on as
many random real images where these were evaluated: one draw of them for each seed of the run, and
draws differ by several points. Minutes are those of the run's clock for all its sets, on a machine
that may have had other work.

```python
import gm_jax

condensed = gm_jax.load_condensed("{first}")
condensed.images, condensed.labels  # normalised; pixel = image * std + mean
```

```
gm-jax evaluate {first} --count 5 --epochs 300
```

The real images are loaded for the test: `mnist5k` and `digits` need the extra `samples`, the sets
of TensorFlow Datasets `tfds`.

{each}
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    return command.main("experiments.release", __doc__, Settings, make, arguments)


if __name__ == "__main__":
    sys.exit(main())
