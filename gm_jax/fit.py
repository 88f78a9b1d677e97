"""What a data set and devices allow of a run's settings and variant."""

import jax
import jax.numpy as jnp

from gm_jax.build import (
    build_mesh,
    build_method,
    build_network,
    convnet_depth,
    inner_plan,
    matching_plan,
)
from gm_jax.checks import MOST
from gm_jax.config import Config, Devices
from gm_jax.core import augment, spread_check
from gm_jax.core.method import Variant, unchanged
from gm_jax.data.images import Dataset
from gm_jax.errors import UserError
from gm_jax.variant_check import check_variant


def check_run(config: Config, dataset: Dataset, variant: Variant, devices: Devices) -> None:
    """Raises `UserError` for the first thing that this data set, or these devices, do not allow."""
    check_fits(config, dataset)
    check_variant(config, dataset, variant)
    build_mesh(config, dataset, devices)
    check_spread(config, dataset, variant, devices)


def check_fits(config: Config, dataset: Dataset) -> None:
    """Raises `UserError` for the first setting that this data set does not allow."""
    smallest, images = int(dataset.train.counts.min()), int(dataset.train.counts.sum())
    at_most = {"noise": MOST, "real": smallest, "mix": smallest // config.factor**2}
    if config.ipc > (most := at_most[config.start]):
        raise UserError(
            f"--ipc {config.ipc}: at most {most} with --start {config.start}, "
            f"by the smallest class of {dataset.name}"
        )
    if config.inner_data == "real" and config.inner_images > images:
        raise UserError(
            f"--inner-images {config.inner_images}: at most {images}, all of {dataset.name}"
        )
    if config.factor > min(dataset.image_shape[:2]):
        shape = "x".join(map(str, dataset.image_shape))
        raise UserError(f"--factor {config.factor}: at most the images' size, {shape}")
    for plan in (matching_plan(config, dataset, config.strategy), inner_plan(config, dataset)):
        change, image = augment.siamese(plan), jnp.zeros((1, *dataset.image_shape))
        jax.eval_shape(change, jax.random.key(0), image)  # refuses what the images do not allow
    check_network_fits(config, dataset)


def check_spread(config: Config, dataset: Dataset, variant: Variant, devices: Devices) -> None:
    """Raises `UserError` for a variant that would be another one where classes are spread."""
    if variant is not unchanged and devices.class_devices > 1:
        method, train = variant(build_method(config, dataset)), dataset.train
        shape = dataset.image_shape
        spread_check.check(method, devices.class_devices, shape, (train.mean, train.std))


def check_network_fits(config: Config, dataset: Dataset) -> None:
    """Raises `UserError` if the network does not take this data set's images."""
    network = build_network(config, dataset)
    try:
        jax.eval_shape(network.init, jax.random.key(0))
    except ValueError as error:
        shape = "x".join(map(str, dataset.image_shape))
        named = f"--network {config.network}"
        named += f" --depth {convnet_depth(config, dataset)}" if config.network == "convnet" else ""
        raise UserError(f"{named} does not fit {dataset.name} ({shape}): {error}") from error
