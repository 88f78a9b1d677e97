"""`gm-jax prepare`: a data set on disk, class by class, for sets larger than memory or a device."""

import dataclasses
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from gm_jax import checks
from gm_jax.checks import between
from gm_jax.data import prepared
from gm_jax.data.loading import IMAGE_SIZE, NAMES, absolute, load
from gm_jax.data.own import folder_source
from gm_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Prepare:
    """Write a data set as arrays that runs read from disk, each device only its own classes.

    OUT holds manifest.json with digests, train.npy, test_images.npy and test_labels.npy; give it to
    condense as --dataset. Of a folder of pictures one class at a time is in memory.
    """

    dataset: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATASET")]
    """Data set, as condense knows it: a name, a folder of pictures by class, or an .npz."""
    out: Path
    """Folder to write, which must not exist or be empty."""
    image_size: Annotated[int, between(4, 1024)] | None = None
    """Pixels on a side of the square that a folder's pictures are cut and resized to. Default: 32.
    """


def prepare(command: Prepare) -> None:
    """Writes the folder, and prints what it holds."""
    checks.check(command)
    prepared.write(command.out, _source(command))
    dataset = prepared.read(command.out)
    images, counts = dataset.train.images, np.asarray(dataset.train.counts)
    shape = "x".join(map(str, dataset.image_shape))
    size = images.nbytes / 2**20
    print(
        f"{command.out}: {counts.sum():,} images of {len(counts)} classes, {shape}, {size:,.0f} MiB"
    )


def _source(command: Prepare) -> prepared.Source:
    if command.dataset in NAMES:
        return prepared.of_dataset(load(command.dataset, command.image_size))
    path = Path(absolute(command.dataset))
    if prepared.is_prepared(path):
        raise UserError(f"{path} is prepared already: give it to condense")
    if path.is_dir():
        return folder_source(path, command.image_size or IMAGE_SIZE)
    return prepared.of_dataset(load(str(path), command.image_size))
