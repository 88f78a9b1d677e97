"""From settings and a data set to functions: the network, the method, the start of every set."""

import functools
import math
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from gm_jax.config import Config, Devices, Swept, list_sets, outer_steps
from gm_jax.core import (
    augment,
    distances,
    inner_data,
    iteration,
    parametrisation,
    schemes,
    starts,
    step_rules,
)
from gm_jax.core.cutmix import then_cutmix
from gm_jax.core.loop import Sets
from gm_jax.core.method import Method, Optimiser, Variant, unchanged
from gm_jax.data.images import Dataset
from gm_jax.errors import UserError
from gm_jax.evaluation import protocol as protocols
from gm_jax.nn import layers, networks, platforms
from gm_jax.nn.convolution import FORMS
from gm_jax.parallel.meshes import make_mesh
from gm_jax.published_settings import (
    DSA_STRATEGIES,
    IDC_EVALUATION,
    IDC_MATCHING,
    MULTI_LEVEL_TABLE,
    OTHER_TABLE,
    paper_steps,
    published_as,
)

NORMS: dict[str, Callable] = {
    "none": layers.no_norm,
    "batch": layers.batch_norm,
    "layer": layers.layer_norm,
    "instance": layers.instance_norm,
    "group": layers.group_norm,
}
ACTIVATIONS: dict[str, Callable] = {
    "sigmoid": nn.sigmoid,
    "relu": nn.relu,
    "leaky-relu": layers.leaky_relu,
}
POOLINGS: dict[str, Callable] = {
    "none": layers.no_pool,
    "max": layers.max_pool,
    "average": layers.average_pool,
}
COUNTED: dict[str, Callable] = {
    "all": lambda distance: distance,
    "convolutions": distances.of_convolutions,
}

STARTS: dict[str, Callable] = {
    "noise": lambda factor: starts.noise_images,
    "real": lambda factor: starts.real_images,
    "mix": starts.mosaics,
}
"""`factor -> start`."""


def build_network(config: Config, dataset: Dataset) -> networks.Network:
    """The network of a run, for this data set's images and classes."""
    settings: dict = {"classes": len(dataset.class_names)}
    if config.network != "mlp":
        settings["convolution"] = FORMS[config.convolution or platforms.defaults().convolution]
    if config.network == "convnet":
        settings |= {
            "width": config.width,
            "depth": convnet_depth(config, dataset),
            "norm": NORMS[config.norm],
            "activation": ACTIVATIONS[config.activation],
            "pool": POOLINGS[config.pooling],
        }
    module = networks.ARCHITECTURES[config.network](**settings)
    return networks.from_flax(module, dataset.image_shape)


def convnet_depth(config: Config, dataset: Dataset) -> int:
    """ConvNet's blocks: as set, or round(log2(size)) - 2 of the shorter side, at least 1.

    The field's custom: 3 for 32x32, 4 for 64x64, 5 for 128x128 (MTT, arXiv 2203.11932).
    """
    size = min(dataset.image_shape[:2])
    return config.depth or max(1, round(math.log2(size)) - 2)


def build_method(config: Config, dataset: Dataset, swept: Swept | None = None) -> Method:
    """The equations that these settings stand for.

    Args:
        config: the settings.
        dataset: for its images' shape and its classes.
        swept: the numbers of the set; those of the first set by default.

    Raises:
        UserError: an augmentation's strategy has an unknown operation, or one that needs colours.
    """
    swept = list_sets(config)[0].swept if swept is None else swept
    defaults, plan = platforms.defaults(), matching_plan(config, dataset, config.strategy)
    return Method(
        network=build_network(config, dataset),
        schemes=_build_schemes(config),
        step_rule=_build_step_rule(config),
        outer_steps=outer_steps(config),
        distance=COUNTED[config.counted](distances.DISTANCES[config.distance]),
        inter_weight=len(dataset.class_names) if swept.inter_weight is None else swept.inter_weight,
        parametrisation=_build_parametrisation(config, dataset),
        augment=augment.siamese(plan) if plan else None,
        inner_data=_build_inner_data(config),
        inner_augment=_build_inner_augment(config, dataset),
        image_lr=swept.image_lr,
        network_lr=swept.network_lr,
        image_optimiser=functools.partial(optax.sgd, momentum=config.image_momentum),
        network_optimiser=_build_network_optimiser(config),
        batch_train=config.batch_train,
        microbatch=microbatch_of(config, config.network, dataset),
        class_chunk=at_a_time(config.class_chunk, defaults.class_chunk),
        iterations=config.iterations,
    )


def microbatch_of(config: Config, network: str, dataset: Dataset) -> int | None:
    """Images at a time in means over images, for a network of this name."""
    height, width, _ = dataset.image_shape
    return at_a_time(config.microbatch, platforms.defaults().microbatch(network, height, width))


def at_a_time(setting: int | None, default: int | None) -> int | None:
    """How many at a time: the platform's default if not set, `None` (all at once) if set to 0."""
    return default if setting is None else setting or None


def _build_schemes(config: Config) -> tuple[schemes.Scheme, ...]:
    batches = config.batch_real, config.batch_synthetic
    within, across = schemes.intra(*batches), schemes.inter(config.batch_mixed)
    return {
        "multi-level": (schemes.multi_level(*batches),),
        "intra": (within,),
        "inter": (across,),
        "interleaved": (within, across),
        "warm-up": (schemes.warm_up(*batches),),
    }[config.scheme]


def _build_parametrisation(config: Config, dataset: Dataset) -> parametrisation.Parametrisation:
    normalised = lambda pixel: (pixel - dataset.train.mean) / dataset.train.std
    learned = parametrisation.multi_formation(config.factor, normalised(0.5))
    if not config.clamp:
        return learned
    return parametrisation.clamped(learned, normalised(0.0), normalised(1.0))


def matching_plan(config: Config, dataset: Dataset, strategy: str | None) -> augment.Plan:
    """The operations of `--augment`, of this strategy or the published one; none if it is none."""
    published = {"none": "none", "dsa": dsa_strategy(dataset), "idc": IDC_MATCHING}
    strategy = published[config.augment] if strategy is None else strategy
    return {"none": augment.dsa, "dsa": augment.dsa, "idc": augment.idc}[config.augment](strategy)


def dsa_strategy(dataset: Dataset) -> str:
    """The strategy published for a data set; others are treated as CIFAR-10, digits as MNIST."""
    return DSA_STRATEGIES.get(_published_as(dataset), DSA_STRATEGIES["cifar10"])


def _published_as(dataset: Dataset) -> str:
    return "mnist" if dataset.handwritten_digits else published_as(dataset.name)


def _build_inner_data(config: Config) -> inner_data.InnerData:
    real = inner_data.real(config.inner_images)
    return {"synthetic": inner_data.synthetic, "real": real}[config.inner_data]


def inner_plan(config: Config, dataset: Dataset) -> augment.Plan:
    """The change of what the network trains on between outer steps."""
    chosen = config.strategy if config.inner_strategy is None else config.inner_strategy
    return matching_plan(config, dataset, chosen)


def _build_inner_augment(config: Config, dataset: Dataset) -> augment.TrainingAugment | None:
    plan = inner_plan(config, dataset)
    if not plan and not config.cutmix:
        return None
    change = augment.for_training(augment.per_image(plan))
    classes = len(dataset.class_names)
    return then_cutmix(change, classes, config.cutmix) if config.cutmix else change


def _build_network_optimiser(config: Config) -> Optimiser:
    sgd = functools.partial(optax.sgd, momentum=config.network_momentum)
    if not config.network_weight_decay:
        return sgd
    decay = optax.add_decayed_weights(config.network_weight_decay)
    return lambda learning_rate: optax.chain(decay, sgd(learning_rate))


def _build_step_rule(config: Config) -> step_rules.StepRule:
    if config.step_rule == "fixed":
        _, inner = paper_steps(config.ipc)
        return step_rules.fixed(inner if config.inner_epochs is None else config.inner_epochs)
    if config.step_rule == "schedule":
        multi_level = config.scheme == "multi-level"
        return step_rules.schedule(MULTI_LEVEL_TABLE if multi_level else OTHER_TABLE)
    return step_rules.overfit(50 if config.inner_epochs is None else config.inner_epochs)


def start_sets(config: Config, dataset: Dataset, variant: Variant = unchanged) -> Sets:
    """Where every set starts, in the order of `list_sets`: the same for all sets of one seed.

    Returns:
        keys, swept numbers and states, arrays `[sets, ...]`.
    """
    start_from = STARTS[config.start](config.factor)

    def of_set(seed, swept):
        start_key, set_key = jax.random.split(jax.random.key(seed))
        images = start_from(start_key, dataset.train, config.ipc)
        return set_key, iteration.init(variant(build_method(config, dataset, swept)), images)

    swept = swept_numbers(config)
    seeds = jnp.array([one.seed for one in list_sets(config)], jnp.uint32)
    if isinstance(dataset.train.images, np.ndarray):  # drawn from on the host
        stack = lambda *arrays: jnp.stack(arrays)
        each = [jax.tree.map(jnp.asarray, one.swept) for one in list_sets(config)]
        keys, state = jax.tree.map(stack, *map(of_set, seeds, each))
    else:
        keys, state = jax.vmap(of_set)(seeds, swept)
    return Sets(keys, swept_numbers(config), state)  # anew: the state is donated, and may hold them


def swept_numbers(config: Config) -> Swept:
    """The numbers of all sets, each float `[sets]`, in the order of `list_sets`."""
    swept = [one.swept for one in list_sets(config)]
    return jax.tree.map(lambda *values: jnp.array(values, float), *swept)


def build_mesh(config: Config, dataset: Dataset, devices: Devices) -> Mesh | None:
    """The devices that a run is spread over, `None` for one.  Raises as `device_groups`."""
    there = jax.devices()
    used = device_groups(config, dataset, devices, there) * devices.class_devices
    return None if used == 1 else make_mesh(there[:used], devices.class_devices)


def device_groups(
    config: Config, dataset: Dataset, devices: Devices, there: Sequence[jax.Device]
) -> int:
    """How many devices, or groups of them, the sets of a run are spread over.

    Args:
        config, dataset: what is spread.
        devices: what was asked for.
        there: all devices that there are.

    Raises:
        UserError: there are fewer, or they or the classes do not divide.
    """
    count, share = devices.devices or len(there), devices.class_devices
    if count > len(there):
        raise UserError(f"--devices {count}: there are {len(there)} ({there[0].platform})")
    if share > count:
        raise UserError(f"--class-devices {share}: at most {count}, the devices to use")
    if count % share and (devices.devices is not None or jax.process_count() > 1):
        raise UserError(f"--class-devices {share}: must divide the {count} devices to use")
    if (classes := len(dataset.class_names)) % share:
        raise UserError(
            f"--class-devices {share}: must divide the {classes} classes of {dataset.name}"
        )
    if share > 1 and config.scheme in ("inter", "interleaved"):
        raise UserError(
            f"--class-devices {share} has no meaning with --scheme {config.scheme}, "
            "which matches images of mixed classes"
        )
    of_sets = count // share
    if jax.process_count() == 1:  # else each process needs a part
        of_sets = min(of_sets, len(list_sets(config)))
    return of_sets


def build_protocol(name: str, config: Config, dataset: Dataset) -> protocols.Protocol:
    """The evaluation protocol of that name, for sets that were condensed with these settings."""
    if name == "paper":
        return protocols.paper_protocol(dataset)
    if name == "dsa":
        return protocols.dsa_protocol(dsa_strategy(dataset))
    if name == "ddranking":
        return protocols.ddranking_protocol()
    return _build_idc_protocol(config, dataset)


def _build_idc_protocol(config: Config, dataset: Dataset) -> protocols.Protocol:
    """IDC's, with its exceptions; other data sets are treated as CIFAR-10, digits as MNIST."""
    name = _published_as(dataset)
    strategy = IDC_EVALUATION.get(name, IDC_EVALUATION["cifar10"])
    cutmix = 0.5
    if name == "mnist" and config.factor > 1:
        cutmix = 0.0
    if name == "svhn_cropped" and config.factor == config.ipc == 1:
        strategy, cutmix = "color_crop_cutout_scale_rotate", 0.0
    return protocols.idc_protocol(strategy, len(dataset.class_names), cutmix)
