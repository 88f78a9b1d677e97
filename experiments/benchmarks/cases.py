"""What `bench` measures: its cases, and the arithmetic in each.  Pure Python.

Ten classes, multi-level, cosine+l2, the fixed step rule with the paper's inner epochs.  A case is
one of five parts with one network (ConvNet 128, VGG11, ResNet18) at one image shape and one ipc:

    real gradients              gT_c of `batch_real` images of each class
    synthetic match + gradient  the matching loss and its gradient by the images, given gT
    inner epoch                 the network once over the C * ipc synthetic images
    iteration                   outer steps, with inner epochs after all but the last
    evaluation                  a fresh network trained on C * ipc images, tested on 1000

FLOPs are those of the direct algorithm, a multiply-add being two, in convolutions and the dense
layer; norms, activations, pooling, distances and optimisers count nothing.  An image costs

    f = sum(network_flops)    f1 = the first convolution's    g = 3 f - f1   (gradient by the
                                                   parameters: none by the image is computed)

and with B = batch_real, n = C * ipc

    real gradients              C B g
    synthetic match + gradient  n (g + 6 f)   gS, then its pullback forward over reverse; nominal:
                                              the first convolution needs less
    inner epoch                 n g
    iteration                   outer (C B g + n (g + 6 f)) + (outer - 1) inner n g
    evaluation                  epochs n g + 1000 f
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal, get_args

CLASSES, WIDTH, DEPTH, TEST_IMAGES = 10, 128, 3, 1000

Shape = tuple[int, int, int]
"""Height, width, channel."""

ShapeName = Literal["mnist", "cifar10"]
SHAPES: dict[str, Shape] = {"mnist": (28, 28, 1), "cifar10": (32, 32, 3)}

NetworkName = Literal["convnet", "vgg11", "resnet18"]

PartName = Literal[
    "real gradients", "synthetic match + gradient", "inner epoch", "iteration", "evaluation"
]
PARTS: tuple[str, ...] = get_args(PartName)
REAL, MATCH, EPOCH, ITERATION, EVALUATION = PARTS


@dataclasses.dataclass(frozen=True)
class Case:
    """One thing to measure; a field that its part does not use is 0."""

    part: str
    """One of `PARTS`."""
    shape: str
    """One of `SHAPES`."""
    ipc: int = 0
    """Synthetic images of each class."""
    batch_real: int = 0
    """Real images of each class."""
    outer_steps: int = 0
    """Image updates in an iteration."""
    paper_outer_steps: int = 0
    """The paper's, for this ipc."""
    inner_epochs: int = 0
    """Epochs after each outer step but the last."""
    epochs: int = 0
    """Of evaluation."""
    network: str = "convnet"
    """One of `NetworkName`."""

    @property
    def images(self) -> int:
        """Synthetic images of all classes."""
        return CLASSES * self.ipc


def part_name(case: Case) -> str:
    """The part, and how much of it: `iteration, 2 of 10 outer steps`."""
    if case.part == EVALUATION:
        return f"{case.part}, {case.epochs} epochs"
    if case.part != ITERATION:
        return case.part
    shortened = case.outer_steps < case.paper_outer_steps
    share = f"{case.outer_steps} of {case.paper_outer_steps}" if shortened else case.outer_steps
    return f"{case.part}, {share} outer step{'s' if shortened or case.outer_steps > 1 else ''}"


def case_name(case: Case) -> str:
    """A name to print: `convnet, mnist, ipc 10, inner epoch`."""
    ipc = f"ipc {case.ipc}, " if case.ipc else ""
    return f"{case.network}, {case.shape}, {ipc}{part_name(case)}"


def network_flops(network: str, shape: Shape, classes: int) -> list[int]:
    """FLOPs of each layer on one image: the first convolution first, the dense layer last."""
    return {
        "convnet": lambda: convnet_flops(shape, classes, WIDTH, DEPTH),
        "vgg11": lambda: vgg11_flops(shape, classes),
        "resnet18": lambda: resnet18_flops(shape, classes),
    }[network]()


def convnet_flops(shape: Shape, classes: int, width: int, depth: int) -> list[int]:
    """FLOPs of ConvNet's layers: `depth` convolutions."""
    return stages_flops(_padded(shape), classes, [(width,)] * depth)


def vgg11_flops(shape: Shape, classes: int) -> list[int]:
    """FLOPs of VGG11's layers: eight convolutions in five stages."""
    stages = [(64,), (128,), (256, 256), (512, 512), (512, 512)]
    return stages_flops(_padded(shape), classes, stages)


def stages_flops(shape: Shape, classes: int, stages: Sequence[Sequence[int]]) -> list[int]:
    """FLOPs of 3x3 convolutions of these channels; a stage ends by halving height and width."""
    (height, across, channel), layers = shape, []
    for stage in stages:
        for features in stage:
            layers.append(2 * 9 * height * across * channel * features)
            channel = features
        height, across = height // 2, across // 2
    return [*layers, 2 * height * across * channel * classes]


def resnet18_flops(shape: Shape, classes: int) -> list[int]:
    """FLOPs of ResNet18's layers: one 3x3 convolution, four in each stage, 1x1 between stages."""
    height, across, channel = shape
    layers = [2 * 9 * height * across * channel * 64]
    channel = 64
    for features in (64, 128, 256, 512):
        if features != channel:
            height, across = -(-height // 2), -(-across // 2)
            layers.append(2 * height * across * channel * features)
        pixels = height * across
        layers += [2 * 9 * pixels * channel * features] + [2 * 9 * pixels * features**2] * 3
        channel = features
    return [*layers, 2 * (height // 4) * (across // 4) * channel * classes]


def _padded(shape: Shape) -> Shape:
    """28x28x1 is padded by 3 in the first convolution, not by 1."""
    return (32, 32, 1) if shape == (28, 28, 1) else shape


def flops(case: Case) -> int:
    """FLOPs of a case, by the formulas above."""
    layers = network_flops(case.network, SHAPES[case.shape], CLASSES)
    forward = sum(layers)
    gradient = 3 * forward - layers[0]
    real = CLASSES * case.batch_real * gradient
    match = case.images * (gradient + 6 * forward)
    epoch = case.images * gradient
    return {
        REAL: real,
        MATCH: match,
        EPOCH: epoch,
        ITERATION: case.outer_steps * (real + match)
        + (case.outer_steps - 1) * case.inner_epochs * epoch,
        EVALUATION: case.epochs * epoch + TEST_IMAGES * forward,
    }[case.part]
