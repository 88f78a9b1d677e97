"""Where a result comes from: versions, machine, commit, and a digest of the data."""

import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gm_jax._version import __version__
from gm_jax.data.digests import sha256
from gm_jax.data.images import Dataset

PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")
"""Whose versions a result may depend on."""


def environment() -> dict[str, Any]:
    """What runs now: `versions`, `platform`, and the `commit` of gm_jax, `None` if unknown."""
    versions = {"gm_jax": __version__, "python": platform.python_version()}
    versions |= {name: importlib.metadata.version(name) for name in PACKAGES}
    devices = jax.devices()
    machine = {
        "system": platform.system(),
        "machine": platform.machine(),
        "backend": jax.default_backend(),
        "device": devices[0].device_kind,
        "devices": len(devices),
    }
    return {"versions": versions, "platform": machine, "commit": commit(Path(__file__).parent)}


def commit(folder: Path) -> str | None:
    """The git commit of a package's source, `-dirty` after it if files differ from it.

    `None` where the package is no part of a repository (another's may lie around it) or there is
    no git.
    """
    try:
        _git(folder, "ls-files", "--error-unmatch", "__init__.py")
        return _git(folder, "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", folder, *arguments], capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout.strip()


def data(dataset: Dataset) -> dict[str, Any]:
    """A data set's SHA-256: of the training images by class, and of the test images and labels."""
    train = dataset.train
    digests = dataset.digests or {
        "train": sha256(train.images, train.counts),
        "test": sha256(dataset.test_images, dataset.test_labels),
    }
    counts = np.asarray(train.counts).tolist()
    return {"name": dataset.name, **digests, "counts": counts}
