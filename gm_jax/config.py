"""The settings of a condensation and of an evaluation, and what is allowed together."""

import dataclasses
import itertools
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple

from gm_jax import checks
from gm_jax.checks import (
    BELOW_ONE,
    MOST,
    NOT_NEGATIVE,
    POSITIVE,
    SEED,
    SHARE,
    Count,
    CountOrAll,
    between,
    flag,
)
from gm_jax.errors import UserError
from gm_jax.published_settings import paper_steps

SchemeName = Literal["intra", "inter", "interleaved", "multi-level", "warm-up"]
DistanceName = Literal[
    "cosine",
    "cosine+l2",
    "cosine+sqsum",
    "cosine+sqmean",
    "cosine+normdiff",
    "l2",
    "sqsum",
    "l1",
    "orthogonal",
    "mse-global",
    "cosine-global",
]
CountedName = Literal["all", "convolutions"]
StepRuleName = Literal["fixed", "schedule", "overfit"]
NetworkName = Literal[
    "convnet",
    "mlp",
    "lenet",
    "alexnet",
    "vgg11",
    "vgg11bn",
    "resnet18",
    "resnet18bn",
    "resnet18_ap",
    "resnet18bn_ap",
]
NormName = Literal["none", "batch", "layer", "instance", "group"]
ActivationName = Literal["sigmoid", "relu", "leaky-relu"]
PoolingName = Literal["none", "max", "average"]
StartName = Literal["noise", "real", "mix"]
AugmentName = Literal["none", "dsa", "idc"]
ProtocolName = Literal["paper", "dsa", "idc", "ddranking"]
InnerDataName = Literal["synthetic", "real"]
PrecisionName = Literal["default", "high", "highest"]
ConvolutionName = Literal["xla", "hybrid", "products", "winograd"]

OF_INNER_EPOCHS = (
    "inner_epochs",
    "inner_strategy",
    "cutmix",
    "inner_data",
    "inner_images",
    "network_lr",
    "network_weight_decay",
    "batch_train",
)
"""Settings of what follows an outer step, which nothing does after the last one."""

OF_CONVNET = ("width", "depth", "norm", "activation", "pooling")
"""The settings that only ConvNet has."""


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings of a condensation; the defaults are the paper's."""

    dataset: str = "mnist5k"
    """Data set to condense: digits, mnist5k (shipped), mnist, fashion_mnist, svhn_cropped, cifar10,
    cifar100 (downloaded once), or the path of your own: a folder of pictures by class, an .npz of
    uint8 images [n, height, width(, channel)] and labels [n], or what gm-jax prepare wrote."""
    image_size: Annotated[int, between(4, 1024)] | None = None
    """Pixels on a side of the square that a folder's pictures are cut and resized to. Default: 32.
    """
    ipc: Count = 10
    """Synthetic images of each class."""
    scheme: SchemeName = "multi-level"
    """Which gradients are matched: each class's (intra), those of mixed classes (inter), the two in
    turn (interleaved), each class's and their mean at once (multi-level), or each class's in the
    first 10 outer steps of the first 250 iterations and their mean after those (warm-up)."""
    distance: DistanceName = "cosine+l2"
    """Distance between gradients."""
    counted: CountedName = "all"
    """Which of the network's tensors the distance counts: all that it is defined on, or the kernels
    of convolutions alone."""
    step_rule: StepRuleName = "overfit"
    """Inner epochs after an outer step: a number (fixed), the paper's table (schedule), or until
    the validation loss rises (overfit)."""
    iterations: Count = 1000
    """Iterations: fresh networks, one after another."""
    batch_real: Count = 256
    """Real images of each class at each outer step; a smaller class gives all it has."""
    batch_synthetic: Count | None = None
    """Synthetic images of each class at each outer step, drawn at random. Default: all of them."""
    batch_mixed: Count = 1024
    """Real images of mixed classes at each outer step (inter, interleaved)."""
    outer_steps: Count | None = None
    """Image updates in an iteration. Default: the paper's (1 at ipc 1, 10 at 10, 50 at 50)."""
    inner_epochs: CountOrAll | None = None
    """Epochs after an outer step (fixed), or at most (overfit). Default: the paper's (fixed: 50 at
    ipc 10, 10 at 50; overfit: 50)."""
    inter_weight: tuple[Annotated[float, NOT_NEGATIVE], ...] | None = None
    """Weight of the loss across classes. Default: the number of classes. Several values are swept:
    one set for each."""
    start: StartName = "noise"
    """What the images start as: N(0, 1) noise (noise), random real images (real), or mosaics of
    factor^2 random real images each (mix)."""
    factor: Annotated[int, between(1, 3)] = 1
    """Multi-formation: each learned image stands for factor^2 images, its enlarged crops."""
    clamp: bool = False
    """Keep what is learned within black and white: clamped before every iteration."""
    augment: AugmentName = "none"
    """Random change of real and synthetic images alike before they are matched, and of what the
    network trains on: one operation of the strategy (dsa), or several (idc)."""
    strategy: str | None = None
    """Operations of --augment, joined by _: color, crop, cutout, flip, scale, rotate. Default: the
    published ones, color_crop_cutout_flip_scale_rotate (dsa; without flip on mnist, mnist5k, digits
    and svhn_cropped), color_crop_cutout (idc)."""
    inner_strategy: str | None = None
    """Operations that change what the network trains on, image by image. Default: --strategy."""
    cutmix: Annotated[float, SHARE] = 0.0
    """Probability of cutmix for a batch that the network trains on between outer steps."""
    inner_data: InnerDataName = "synthetic"
    """What the network trains on between outer steps: the synthetic images, or fresh real ones."""
    inner_images: Count = 512
    """Real images of an inner epoch, with --inner-data real."""
    image_lr: tuple[Annotated[float, POSITIVE], ...] | None = None
    """Learning rate of the images. Default: 0.1, or 0.01 with the network mlp. Several values are
    swept: one set for each."""
    image_momentum: Annotated[float, BELOW_ONE] = 0.5
    """Momentum of the images, 0 to below 1."""
    network_lr: tuple[Annotated[float, POSITIVE], ...] = (0.01,)
    """Learning rate of the network in the inner epochs. Several values are swept: one set for each.
    """
    network_momentum: Annotated[float, BELOW_ONE] = 0.5
    """Momentum of the network in the inner epochs, 0 to below 1."""
    network_weight_decay: Annotated[float, NOT_NEGATIVE] = 0.0
    """Weight decay of the network in the inner epochs, added to the gradient."""
    batch_train: Count = 256
    """Images in a batch of an inner epoch."""
    network: NetworkName = "convnet"
    """Architecture."""
    width: Count = 128
    """ConvNet: channels of a convolution."""
    depth: Annotated[int, between(1, 100)] | None = None
    """ConvNet: blocks, each of which halves the image. Default: as many as leave about 4x4 pixels:
    3 for 28x28 and 32x32, 4 for 64x64, 1 for 8x8."""
    norm: NormName = "instance"
    """ConvNet: normalisation; group has 4 groups."""
    activation: ActivationName = "relu"
    """ConvNet: activation; leaky-relu has slope 0.01."""
    pooling: PoolingName = "average"
    """ConvNet: 2x2 pooling."""
    seed: Annotated[int, SEED] = 0
    """First seed: of noise, networks and real batches."""
    seeds: Count = 1
    """Seeds `seed`, `seed + 1`, ...: a set for each, as if it ran alone."""
    precision: PrecisionName = "default"
    """Products on an accelerator: with factors of bfloat16 on a TPU and TensorFloat-32 on a GPU
    (default), in three such passes on a TPU (high), or as float32 (highest). A CPU computes in
    float32."""
    convolution: ConvolutionName | None = None
    """How convolutions are computed, for speed alone. Default: winograd on a CPU, hybrid on a
    GPU, xla on a TPU."""
    microbatch: CountOrAll | None = None
    """Images at a time in means over images, for speed and memory alone; 0 is all at once.
    Default: 1024; on a CPU 20 of 32x32 pixels, and of other sizes as many as have as many pixels,
    but 20 of any size for resnet18 and 128 for vgg11."""
    class_chunk: CountOrAll | None = None
    """Classes at a time in the gradients of each, for speed and memory alone; 0 is all at once.
    All at once too where the images of all fit in one --microbatch. Default: 1."""
    set_chunk: CountOrAll | None = None
    """Sets at a time on a device, of several seeds or swept values, for speed and memory alone; 0
    is all at once. Default: 1."""


@dataclasses.dataclass(frozen=True)
class Devices:
    """The devices that a run is spread over: results are the same but for rounding, if that."""

    devices: Count | None = None
    """Devices to use, for sets and their classes; a run may go on with other ones. Default: all, as
    far as there is work for them."""
    stream: bool = False
    """Keep the real images with the host, in memory or as `prepare` wrote them, and send what each
    step draws: for data sets that no devices can hold."""
    class_devices: Count = 1
    """Devices that share the classes of each set, for one large set; the number of classes must be
    a multiple."""


@dataclasses.dataclass(frozen=True)
class Hosts:
    """The processes that a run is spread over: each is given the same command."""

    distributed: bool = False
    """Be one of many processes, on one or more hosts, each started with this command; the first one
    writes OUT. Slurm, TPU slices and Open MPI say where the others are."""
    coordinator: str | None = None
    """HOST:PORT of the first process, with --distributed, where nothing else says it."""
    processes: Count | None = None
    """How many processes there are, with --distributed, where nothing else says it."""
    process: Annotated[int, between(0, MOST)] | None = None
    """Which of them this is, from 0, with --distributed, where nothing else says it."""


def check_hosts(hosts: Hosts, devices: Devices) -> None:
    """Raises `UserError` for the first of these settings that is not allowed."""
    for name in ("coordinator", "processes", "process"):
        if getattr(hosts, name) is not None and not hosts.distributed:
            raise UserError(f"{flag(name)} has no meaning without --distributed")
    if hosts.coordinator is not None:
        host, _, port = hosts.coordinator.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
            raise UserError(f"--coordinator {hosts.coordinator}: must be HOST:PORT")
    most = MOST if hosts.processes is None else hosts.processes
    if hosts.process is not None and hosts.process > most - 1:
        raise UserError(f"--process {hosts.process}: 0 to below --processes {most}")
    if hosts.distributed and devices.devices is not None:
        raise UserError("--devices has no meaning with --distributed, which uses all devices")


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The settings of an evaluation; the defaults are the paper's."""

    networks: tuple[str, ...] = ()
    """Architectures to train, as condense knows them; of ConvNet also variants such as
    convnet:width=64,norm=batch. Default: the run's own."""
    protocol: ProtocolName = "paper"
    """How networks are trained: the paper's, 300 epochs as the images are, 1000 with augmentation
    on MNIST (paper); 1000 epochs with DSA's augmentation (dsa), with IDC's and cutmix in batches of
    64 (idc), or with all of DSA's operations on every data set (ddranking)."""
    count: Count = 20
    """Fresh networks for each set."""
    epochs: Count | None = None
    """Epochs of training. Default: the protocol's."""
    tests: Annotated[int, between(1, 1000)] = 1
    """Tests during the training of a network, the last one at its end. With more than one, the best
    is shown beside the last: chosen on the test images, it is no fair accuracy."""
    scores: bool = False
    """Also compute DD-Ranking's scores HLR, IOR, LRS and ARS: trains with and without augmentation,
    and on the whole training set."""
    full_epochs: Count = 20
    """Epochs of the network that is trained on the whole training set, with --scores."""
    full_accuracy: Annotated[float, SHARE] | None = None
    """Test accuracy, 0 to 1, of a network trained on the whole training set, with --scores, where
    it is known already."""
    seed: Annotated[int, SEED] = 0
    """Seed of the networks and of the random real images."""
    skip_random_real: bool = False
    """Train on the condensed images alone."""
    chunk: CountOrAll | None = None
    """Networks at a time on a device, for speed and memory alone; 0 is all at once. Default: 1."""
    devices: Count | None = None
    """Devices that networks are spread over. Default: all, as far as there are networks."""


# --- sets -----------------------------------------------------------------------------------------


class Swept(NamedTuple):
    """The numbers of one set that may be swept; `inter_weight` is `None` for the paper's."""

    image_lr: Any
    network_lr: Any
    inter_weight: Any


class SetSettings(NamedTuple):
    """What distinguishes one set of a run.

    Attributes:
        seed: of all its draws.
        swept: its numbers.
    """

    seed: int
    swept: Swept


def list_sets(config: Config) -> list[SetSettings]:
    """The sets of a run, in order: every seed with every combination of the swept values.

    Examples:
        >>> sets = list_sets(Config(seeds=2, image_lr=(0.1, 0.2)))
        >>> [(of_set.seed, of_set.swept.image_lr) for of_set in sets]
        [(0, 0.1), (0, 0.2), (1, 0.1), (1, 0.2)]
    """
    seeds = range(config.seed, config.seed + config.seeds)
    weights = (None,) if config.inter_weight is None else config.inter_weight
    image_lr = config.image_lr or ((0.01,) if config.network == "mlp" else (0.1,))
    swept = itertools.starmap(Swept, itertools.product(image_lr, config.network_lr, weights))
    return [SetSettings(*pair) for pair in itertools.product(seeds, swept)]


def swept_names(config: Config) -> list[str]:
    """The settings that have several values in this run."""
    return [name for name in Swept._fields if len(getattr(config, name) or ()) > 1]


def several_values(config: Config, swept: Swept) -> dict[str, float]:
    """Those of a set's numbers that have several values in this run, by name."""
    return {name: getattr(swept, name) for name in swept_names(config)}


def swept_text(values: Mapping[str, float]) -> str:
    """What results of sets with these values of swept settings are called, after their kind.

    Examples:
        >>> f"condensed{swept_text({'image_lr': 0.1})}"
        'condensed, image_lr 0.1'
    """
    return "".join(f", {name} {value:g}" for name, value in values.items())


def outer_steps(config: Config) -> int:
    """Image updates in an iteration: as set, or the paper's for this ipc."""
    return config.outer_steps or paper_steps(config.ipc)[0]


# --- what is allowed together ---------------------------------------------------------------------


def check(config: Config) -> None:
    """Raises `UserError` for the first setting that is not allowed on any data set."""
    checks.check(config)
    for name in Swept._fields:
        if getattr(config, name) == ():
            raise UserError(f"{flag(name)}: give a value")
    if config.seed + config.seeds > 2**32:
        raise UserError(f"--seed {config.seed}: must be 0 to 2**32 - seeds")
    if config.seeds * math.prod(len(getattr(config, name) or "1") for name in Swept._fields) > MOST:
        raise UserError(f"seeds and swept values make more than {MOST} sets")
    if config.counted == "convolutions" and config.network == "mlp":
        raise UserError("--counted convolutions has no meaning with --network mlp, which has none")
    if config.convolution is not None and config.network == "mlp":
        raise UserError("--convolution has no meaning with --network mlp, which has none")
    _check_network(config)
    _check_used(config)


def _check_network(config: Config) -> None:
    if config.norm == "group" and config.width % 4:
        raise UserError(f"--width {config.width}: must be a multiple of 4 with --norm group")
    for name in OF_CONVNET if config.network != "convnet" else ():
        if getattr(config, name) != getattr(Config, name):
            raise UserError(f"{flag(name)} has no meaning with --network {config.network}")


def _check_used(config: Config) -> None:
    """Refuses settings that would change nothing."""
    if config.inner_epochs is not None and config.step_rule == "schedule":
        raise UserError("--inner-epochs has no meaning with --step-rule schedule")
    for name in OF_INNER_EPOCHS if outer_steps(config) == 1 else ():
        if getattr(config, name) != getattr(Config, name):
            raise UserError(f"{flag(name)} has no meaning with one outer step: see --outer-steps")
    for name in ("strategy", "inner_strategy"):
        if getattr(config, name) is not None and config.augment == "none":
            raise UserError(f"{flag(name)} has no meaning with --augment none")
    if config.batch_synthetic is not None and config.scheme in ("inter", "interleaved"):
        raise UserError(f"--batch-synthetic has no meaning with --scheme {config.scheme}")
    if config.start == "mix" and config.factor == 1:
        raise UserError("--start mix has no meaning with --factor 1: see --start real")
    if config.inner_images != Config.inner_images and config.inner_data == "synthetic":
        raise UserError("--inner-images has no meaning with --inner-data synthetic")
    if config.inner_data == "real" and config.step_rule == "overfit":
        raise UserError(
            "--step-rule overfit has no meaning with --inner-data real: it stops where training on "
            "the synthetic images overfits; choose fixed or schedule"
        )
    if config.inter_weight is not None and config.scheme == "intra":
        raise UserError("--inter-weight has no meaning with --scheme intra")
    if config.batch_real != Config.batch_real and config.scheme == "inter":
        raise UserError("--batch-real has no meaning with --scheme inter: see --batch-mixed")
    if config.batch_mixed != Config.batch_mixed and config.scheme not in ("inter", "interleaved"):
        raise UserError(f"--batch-mixed has no meaning with --scheme {config.scheme}")


def with_network(config: Config, named: str) -> Config:
    """The settings with another network: `NAME`, or `convnet:FIELD=VALUE,...` for a variant.

    Fields are `OF_CONVNET`; those not named stay as they are for ConvNet.  Raises `UserError`.

    Examples:
        >>> with_network(Config(depth=2), "convnet:width=32,norm=none").width
        32
    """
    name, _, options = named.partition(":")
    fields: dict[str, Any] = {field: getattr(Config, field) for field in OF_CONVNET}
    if name == "convnet":
        fields = {field: getattr(config, field) for field in OF_CONVNET}
    for option in options.split(",") if options else ():
        field, _, value = option.partition("=")
        if name != "convnet" or field not in OF_CONVNET or not value:
            allowed = ", ".join(f"{field}=..." for field in OF_CONVNET)
            raise UserError(f"network {named!r}: options are convnet:OPTION,... of {allowed}")
        whole_number = field in ("width", "depth")
        if whole_number and not value.isdecimal():
            raise UserError(f"network {named!r}: {field} must be a whole number")
        fields[field] = int(value) if whole_number else value
    fields |= {"network": name}
    checks.check_fields(Config, fields)
    changed = dataclasses.replace(config, **fields)
    _check_network(changed)
    return changed
