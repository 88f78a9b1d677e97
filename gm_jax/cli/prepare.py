"""`gm-jax prepare`: a data set on disk, class by class, for sets larger than memory or a device."""

from pathlib import Path

import numpy as np

from gm_jax.cli.commands import Prepare
from gm_jax.data import prepared
from gm_jax.data.loading import IMAGE_SIZE, NAMES, absolute, load
from gm_jax.data.own import folder_source
from gm_jax.errors import UserError


def prepare(command: Prepare) -> None:
    """Writes the folder, and prints what it holds."""
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
