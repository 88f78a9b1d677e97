"""The settings of a condensation run, what is allowed, and the method they stand for."""

import dataclasses
import itertools
import math
import typing
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from gm_jax.core import iteration, schemes, step_rules
from gm_jax.core.distances import DISTANCES
from gm_jax.core.loop import Runs
from gm_jax.data.images import Dataset
from gm_jax.errors import UserError
from gm_jax.nn import layers, networks, platforms
from gm_jax.nn.convolution import FORMS

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
SCHEMES = ("intra", "inter", "interleaved", "multi-level")
STEP_RULES = ("fixed", "schedule", "overfit")
STARTS: dict[str, Callable] = {"noise": iteration.noise_images, "real": iteration.real_images}

CHOICES: dict[str, Iterable[str]] = {
    "scheme": SCHEMES,
    "distance": DISTANCES,
    "step_rule": STEP_RULES,
    "network": networks.ARCHITECTURES,
    "norm": NORMS,
    "activation": ACTIVATIONS,
    "pooling": POOLINGS,
    "start": STARTS,
    "convolution": FORMS,
}
"""The settings that name one of a few things, and what they may name."""

SWEPT = ("image_lr", "network_lr", "inter_weight")
"""The settings that may have several values, for a set each."""

COUNTS = (
    "ipc",
    "iterations",
    "batch_real",
    "batch_mixed",
    "batch_train",
    "width",
    "depth",
    "seeds",
)
"""The settings that are 1 or more."""

OF_CONVNET = ("width", "depth", "norm", "activation", "pooling")
"""The settings that only ConvNet has."""

MOST = 10**6
"""The largest count of anything: a slip of the finger beyond it ends in a message, not a crash."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of a run; the defaults are the paper's."""

    dataset: str = "mnist5k"
    """Data set to condense: digits, mnist5k (shipped), mnist, fashion_mnist, svhn_cropped, cifar10,
    cifar100 (downloaded once), or the path of your own: a folder of pictures by class, or an .npz
    of uint8 images [n, height, width(, channel)] and labels [n]."""
    image_size: int | None = None
    """Pixels on a side of the square that a folder's pictures are cut and resized to. Default: 32.
    """
    ipc: int = 10
    """Synthetic images a class."""
    scheme: str = "multi-level"
    """Which gradients are matched: each class's (intra), those of mixed classes (inter), the two in
    turn (interleaved), or each class's and their mean at once (multi-level)."""
    distance: str = "cosine+l2"
    """Distance between gradients: cosine, cosine+l2, cosine+sqsum, cosine+sqmean, cosine+normdiff,
    l2, sqsum, mse-global, cosine-global."""
    step_rule: str = "overfit"
    """Inner epochs after an outer step: a number (fixed), the paper's table (schedule), or until
    the validation loss rises (overfit)."""
    iterations: int = 1000
    """Iterations: fresh networks, one after another."""
    batch_real: int = 256
    """Real images a class at each outer step; a smaller class gives all it has."""
    batch_mixed: int = 1024
    """Real images of mixed classes at each outer step (inter, interleaved)."""
    outer_steps: int | None = None
    """Image updates an iteration. Default: the paper's (1 at ipc 1, 10 at 10, 50 at 50)."""
    inner_epochs: int | None = None
    """Epochs after an outer step (fixed), or at most (overfit). Default: the paper's (fixed: 50 at
    ipc 10, 10 at 50; overfit: 50)."""
    inter_weight: tuple[float, ...] | None = None
    """Weight of the loss across classes. Default: the number of classes. Several values are swept:
    a set for each."""
    start: str = "noise"
    """What the images start as: N(0, 1) noise (noise), or random real images (real)."""
    image_lr: tuple[float, ...] | None = None
    """Learning rate of the images. Default: 0.1, or 0.01 with the network mlp. Several values are
    swept: a set for each."""
    image_momentum: float = 0.5
    """Momentum of the images, 0 to below 1."""
    network_lr: tuple[float, ...] = (0.01,)
    """Learning rate of the network in the inner epochs. Several values are swept: a set for each.
    """
    network_momentum: float = 0.5
    """Momentum of the network in the inner epochs, 0 to below 1."""
    batch_train: int = 256
    """Synthetic images in a batch of an inner epoch."""
    network: str = "convnet"
    """Architecture: convnet, mlp, lenet, alexnet, vgg11, vgg11bn, resnet18, resnet18bn,
    resnet18_ap, resnet18bn_ap."""
    width: int = 128
    """ConvNet: channels of a convolution."""
    depth: int = 3
    """ConvNet: blocks."""
    norm: str = "instance"
    """ConvNet: none, batch, layer, instance or group (4 groups) normalisation."""
    activation: str = "relu"
    """ConvNet: sigmoid, relu or leaky-relu (0.01)."""
    pooling: str = "average"
    """ConvNet: none, max or average pooling of 2x2."""
    seed: int = 0
    """Seed of the run: noise, networks, real batches."""
    seeds: int = 1
    """Sets to condense, from seeds `seed`, `seed + 1`, ...: each as if it ran alone."""
    convolution: str | None = None
    """How convolutions are computed, for speed alone: xla, products, winograd. Default: winograd on
    a CPU, xla elsewhere."""
    microbatch: int | None = None
    """Images at a time in sums over images, for speed and memory alone; 0 is all at once.
    Default: 16 on a CPU, all at once elsewhere."""
    class_chunk: int | None = None
    """Classes at a time in the gradients of each, for speed and memory alone; 0 is all at once.
    Default: 1 on a CPU, 10 elsewhere."""
    seed_chunk: int | None = None
    """Sets at a time, of several seeds or swept values, for speed and memory alone; 0 is all at
    once. Default: 1."""


class Rates(NamedTuple):
    """The numbers of one set that may be swept; `inter_weight` is `None` for the paper's."""

    image_lr: Any
    network_lr: Any
    inter_weight: Any


def sets(config: Config) -> list[tuple[int, Rates]]:
    """The sets of a run, in order: every seed with every combination of the swept values."""
    seeds = range(config.seed, config.seed + config.seeds)
    weights = (None,) if config.inter_weight is None else config.inter_weight
    image_lr = config.image_lr or ((0.01,) if config.network == "mlp" else (0.1,))
    rates = itertools.starmap(Rates, itertools.product(image_lr, config.network_lr, weights))
    return list(itertools.product(seeds, rates))


# --- what is allowed ------------------------------------------------------------------------------


def check(config: Config) -> None:
    """Raises `UserError` for the first setting that is not allowed on any data set."""
    for field, kind in typing.get_type_hints(Config).items():
        value = getattr(config, field)
        if field not in SWEPT:
            _check_type(field, value, kind)
        elif value is not None or field == "network_lr":
            _check_type(field, value, tuple)
            for each in value:
                _check_type(field, each, float)
    for field, allowed in CHOICES.items():
        value = getattr(config, field)
        if value is not None and value not in allowed:
            raise UserError(f"{_flag(field)} {value!r} is unknown: choose {', '.join(allowed)}")
    for field in COUNTS:
        _require(config, field, lambda n: 1 <= n <= MOST, f"1 to {MOST}")
    _require(config, "depth", lambda n: n <= 100, "1 to 100")
    if config.seeds * math.prod(len(getattr(config, field) or "1") for field in SWEPT) > MOST:
        raise UserError(f"seeds and swept values make more than {MOST} sets")
    _require(config, "image_size", lambda n: 4 <= n <= 1024, "4 to 1024")
    _require(config, "outer_steps", lambda n: 1 <= n <= MOST, f"1 to {MOST}")
    for field in ("inner_epochs", "microbatch", "class_chunk", "seed_chunk"):
        _require(config, field, lambda n: 0 <= n <= MOST, f"0 to {MOST}")
    for field in ("image_lr", "network_lr"):
        _require_each(config, field, lambda x: 0 < x < 1e30, "above 0 and below 1e30")
    for field in ("image_momentum", "network_momentum"):
        _require(config, field, lambda x: 0 <= x < 1, "0 or more and below 1")
    _require_each(config, "inter_weight", lambda x: 0 <= x < 1e30, "0 or more and below 1e30")
    _require(config, "seed", lambda n: n >= 0 and n + config.seeds <= 2**32, "0 to 2**32 - seeds")
    _check_used(config)


def _check_type(field: str, value: object, kind: Any) -> None:
    """Settings read from a file may be of any type."""
    kind = kind | int if isinstance(0.0, kind) else kind  # a whole number is a float too
    if isinstance(value, bool) or not isinstance(value, kind):
        raise UserError(f"{_flag(field)} {value!r} is of the wrong type")


def _check_used(config: Config) -> None:
    """Refuses settings that would change nothing."""
    if config.inner_epochs is not None and config.step_rule == "schedule":
        raise UserError("--inner-epochs has no meaning with --step-rule schedule")
    if config.inner_epochs is not None and outer_steps(config) == 1:
        raise UserError("--inner-epochs has no meaning with one outer step: see --outer-steps")
    if config.inter_weight is not None and config.scheme == "intra":
        raise UserError("--inter-weight has no meaning with --scheme intra")
    if config.batch_real != Config.batch_real and config.scheme == "inter":
        raise UserError("--batch-real has no meaning with --scheme inter: see --batch-mixed")
    if config.batch_mixed != Config.batch_mixed and config.scheme in ("intra", "multi-level"):
        raise UserError(f"--batch-mixed has no meaning with --scheme {config.scheme}")
    for field in OF_CONVNET if config.network != "convnet" else ():
        if getattr(config, field) != getattr(Config, field):
            raise UserError(f"{_flag(field)} has no meaning with --network {config.network}")
    if config.norm == "group" and config.width % 4:
        raise UserError(f"--width {config.width}: a multiple of 4 with --norm group")


def check_with(config: Config, dataset: Dataset) -> None:
    """Raises `UserError` for the first setting that this data set does not allow."""
    smallest = int(dataset.train.counts.min())
    if config.start == "real" and config.ipc > smallest:
        raise UserError(
            f"--ipc {config.ipc}: at most {smallest} with --start real, "
            f"the smallest class of {dataset.name}"
        )
    network = build_network(config, dataset)
    try:
        jax.eval_shape(network.init, jax.random.key(0))
    except ValueError as error:
        shape = "x".join(map(str, dataset.image_shape))
        named = f"--network {config.network}"
        named += f" --depth {config.depth}" if config.network == "convnet" else ""
        raise UserError(f"{named} does not fit {dataset.name} ({shape}): {error}") from error


def _flag(field: str) -> str:
    return "--" + field.replace("_", "-")


def _require(config: Config, field: str, allowed: Callable, says: str) -> None:
    value = getattr(config, field)
    if value is not None and not allowed(value):
        raise UserError(f"{_flag(field)} {value}: must be {says}")


def _require_each(config: Config, field: str, allowed: Callable, says: str) -> None:
    values = getattr(config, field)
    if values is None:
        return
    if not values:
        raise UserError(f"{_flag(field)}: give a value")
    for value in values:
        if not allowed(value):
            raise UserError(f"{_flag(field)} {value}: must be {says}")
    if len(set(values)) < len(values):
        raise UserError(f"{_flag(field)} {' '.join(map(str, values))}: a value comes twice")


# --- what it stands for ---------------------------------------------------------------------------


def build_network(config: Config, dataset: Dataset) -> networks.Network:
    """The network of a run, for this data set's images and classes."""
    settings = {"classes": len(dataset.class_names)}
    if config.network != "mlp":
        settings["convolution"] = FORMS[config.convolution or platforms.here().convolution]
    if config.network == "convnet":
        settings |= {
            "width": config.width,
            "depth": config.depth,
            "norm": NORMS[config.norm],
            "activation": ACTIVATIONS[config.activation],
            "pool": POOLINGS[config.pooling],
        }
    module = networks.ARCHITECTURES[config.network](**settings)
    return networks.from_flax(module, dataset.image_shape)


def with_network(config: Config, named: str) -> Config:
    """The settings with another network: `NAME`, or `convnet:FIELD=VALUE,...` for a variant.

    Fields are `OF_CONVNET`; those not named stay as they are for ConvNet.  Raises `UserError`.
    """
    name, _, options = named.partition(":")
    fields = {field: getattr(Config, field) for field in OF_CONVNET}
    if name == "convnet":
        fields = {field: getattr(config, field) for field in OF_CONVNET}
    for option in options.split(",") if options else ():
        field, _, value = option.partition("=")
        if name != "convnet" or field not in OF_CONVNET or not value:
            allowed = ", ".join(f"{field}=..." for field in OF_CONVNET)
            raise UserError(f"network {named!r}: options are convnet:OPTION,... of {allowed}")
        whole_number = isinstance(getattr(Config, field), int)
        if whole_number and not value.isdecimal():
            raise UserError(f"network {named!r}: {field} must be a whole number")
        fields[field] = int(value) if whole_number else value
    config = dataclasses.replace(config, network=name, **fields)
    check(config)
    return config


def build_method(config: Config, dataset: Dataset, rates: Rates | None = None) -> iteration.Method:
    """The equations that these settings stand for.

    Args:
        config: the settings.
        dataset: for its images' shape and its classes.
        rates: of the set; those of the first set by default.
    """
    rates = sets(config)[0][1] if rates is None else rates
    here = platforms.here()
    return iteration.Method(
        network=build_network(config, dataset),
        schemes=_build_schemes(config, rates.inter_weight, len(dataset.class_names)),
        step_rule=_build_step_rule(config),
        outer_steps=outer_steps(config),
        image_optimiser=optax.sgd(rates.image_lr, config.image_momentum),
        network_optimiser=optax.sgd(rates.network_lr, config.network_momentum),
        batch_train=config.batch_train,
        microbatch=chosen(config.microbatch, here.microbatch),
        class_chunk=chosen(config.class_chunk, here.class_chunk),
    )


def outer_steps(config: Config) -> int:
    """Image updates an iteration: as set, or the paper's for this ipc."""
    return config.outer_steps or step_rules.paper_steps(config.ipc)[0]


def chosen(setting: int | None, default: int | None) -> int | None:
    """How many at a time: the platform's default if not set, `None` (all at once) if set to 0."""
    return default if setting is None else setting or None


def _build_schemes(config: Config, weight: Any, classes: int) -> tuple[schemes.Scheme, ...]:
    distance = DISTANCES[config.distance]
    if config.scheme == "multi-level":
        return (schemes.multi_level(distance, config.batch_real, weight),)
    within = schemes.intra(distance, config.batch_real)
    weight = float(classes) if weight is None else weight
    across = schemes.inter(distance, weight, config.batch_mixed)
    return {"intra": (within,), "inter": (across,), "interleaved": (within, across)}[config.scheme]


def _build_step_rule(config: Config) -> step_rules.StepRule:
    if config.step_rule == "fixed":
        _, inner = step_rules.paper_steps(config.ipc)
        return step_rules.fixed(inner if config.inner_epochs is None else config.inner_epochs)
    if config.step_rule == "schedule":
        multi_level = config.scheme == "multi-level"
        return step_rules.schedule(
            step_rules.MULTI_LEVEL_TABLE if multi_level else step_rules.OTHER_TABLE
        )
    return step_rules.overfit(50 if config.inner_epochs is None else config.inner_epochs)


def start_runs(config: Config, dataset: Dataset) -> Runs:
    """Where every set starts, in the order of `sets`: the same for all sets of one seed."""
    method = build_method(config, dataset)
    seeds, rates = zip(*sets(config))

    def of_seed(seed):
        start_key, run_key = jax.random.split(jax.random.key(seed))
        images = STARTS[config.start](start_key, dataset.train, config.ipc)
        return run_key, iteration.init(method, images)

    keys, state = jax.vmap(of_seed)(jnp.array(seeds, jnp.uint32))
    return Runs(keys, jax.tree.map(lambda *r: jnp.array(r, float), *rates), state)
