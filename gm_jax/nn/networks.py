"""Networks: Flax modules, and the three functions by which the rest of the library knows a network.

All images are `[n, height, width, channel]`; a network ends in logits `[n, classes]`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from gm_jax.errors import UserError
from gm_jax.nn.convolution import Form
from gm_jax.nn.layers import (
    Conv,
    Dense,
    average_pool,
    batch_norm,
    flat,
    instance_norm,
    max_pool,
    no_pool,
)

Params = Any
"""A network's trainable tensors: any pytree; the last axis of a tensor is its output unit."""
Stats = Any
"""A network's state that is not trained: BatchNorm's running statistics, else empty."""


class Network(NamedTuple):
    """A network as three pure functions.

    Attributes:
        init: `key -> (params, stats)`, a fresh network.
        apply: `(params, stats, x [n, h, w, channel]) -> logits [n, classes]`, each image by itself.
        train: `(params, stats, x) -> (logits, stats)`, in training mode: BatchNorm normalises by
            the batch and updates `stats`.
        features: `(params, stats, x) -> features [n, d]`, what the last dense layer sees.
    """

    init: Callable[[Key[Array, ""]], tuple[Params, Stats]]
    apply: Callable[[Params, Stats, Float[Array, "n h w c"]], Float[Array, "n classes"]]
    train: Callable[
        [Params, Stats, Float[Array, "n h w c"]], tuple[Float[Array, "n classes"], Stats]
    ]
    features: Callable[[Params, Stats, Float[Array, "n h w c"]], Float[Array, "n d"]]


def from_functions(init: Callable, apply: Callable, features: Callable | None = None) -> Network:
    """The network of plain functions.

    Args:
        init: `key -> params`.
        apply: `(params, x) -> logits`.
        features: `(params, x) -> [n, d]`; without it, asking for them raises `UserError`.
    """

    def features_of(params, stats, x):
        if features is None:
            raise UserError("this network offers no features: give from_functions(features=...)")
        return features(params, x)

    return Network(
        init=lambda key: (init(key), {}),
        apply=lambda params, stats, x: apply(params, x),
        train=lambda params, stats, x: (apply(params, x), stats),
        features=features_of,
    )


def from_flax(module: nn.Module, image_shape: tuple[int, int, int]) -> Network:
    """The network of a Flax linen module with `__call__(x, train: bool)`.

    Its features are what the last `layers.Dense` of the module sees; a module without one has none,
    and asking for them raises `UserError`.

    Args:
        module: the module; only a `batch_stats` collection may stand beside its `params`.
        image_shape: height, width, channel.
    """

    def init(key):
        variables = module.init(key, jnp.zeros((1, *image_shape)), train=False)
        return variables["params"], variables.get("batch_stats", {})

    def apply(params, stats, x):
        return module.apply({"params": params, "batch_stats": stats}, x, train=False)

    def train(params, stats, x):
        variables = {"params": params, "batch_stats": stats}
        logits, new = module.apply(variables, x, train=True, mutable=["batch_stats"])
        return logits, new.get("batch_stats", {})

    def features(params, stats, x):
        seen = []

        def look(function, arguments, keywords, context):
            if isinstance(context.module, Dense) and context.method_name == "__call__":
                seen.append(arguments[0] if arguments else keywords["x"])
            return function(*arguments, **keywords)

        with nn.intercept_methods(look):
            apply(params, stats, x)
        if not seen:
            raise UserError("this network offers no features: it has no gm_jax.nn.layers.Dense")
        return seen[-1]

    return Network(init, apply, train, features)


# --- architectures --------------------------------------------------------------------------------


class ConvNet(nn.Module):
    """`depth` blocks of 3x3 convolution, norm, activation, 2x2 pooling; then one dense layer.

    The network of the dataset-condensation literature (Gidaris & Komodakis 2018; Zhao et al. 2021).
    A one-channel 28x28 image is padded by 3 in the first convolution, so that it becomes 32x32.

    Attributes:
        classes: logits.
        width: channels of each convolution.
        depth: blocks, each of which halves height and width where there is pooling.
        norm, activation, pool: what follows a convolution, in this order.
        convolution: how convolutions are computed; `None` is this platform's way.
    """

    classes: int
    width: int = 128
    depth: int = 3
    norm: Callable = instance_norm
    activation: Callable = nn.relu
    pool: Callable = average_pool
    convolution: Form | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], train: bool) -> Float[Array, "n classes"]:
        for block in range(self.depth):
            padding = 3 if block == 0 and x.shape[1:] == (28, 28, 1) else 1
            x = Conv(self.width, padding=padding, form=self.convolution)(x)
            x = self.pool(self.activation(self.norm(x, train)))
        return Dense(self.classes)(flat(x))


class MLP(nn.Module):
    """Two hidden layers of 128 with ReLU."""

    classes: int

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], train: bool) -> Float[Array, "n classes"]:
        x = flat(x)
        for _ in range(2):
            x = nn.relu(Dense(128)(x))
        return Dense(self.classes)(x)


class LeNet(nn.Module):
    """Two 5x5 convolutions with ReLU and 2x2 max pooling, then three dense layers (LeCun 1998).

    A one-channel image is padded by 2 in the first convolution: 28x28 and 32x32x3 end alike.
    """

    classes: int
    convolution: Form | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], train: bool) -> Float[Array, "n classes"]:
        padding = 2 if x.shape[-1] == 1 else 0
        x = max_pool(nn.relu(Conv(6, 5, padding, form=self.convolution)(x)))
        x = flat(max_pool(nn.relu(Conv(16, 5, 0, form=self.convolution)(x))))
        for features in (120, 84):
            x = nn.relu(Dense(features)(x))
        return Dense(self.classes)(x)


class AlexNet(nn.Module):
    """Five convolutions with ReLU, 2x2 max pooling after three of them, one dense layer.

    The small form that the condensation literature uses (after Krizhevsky et al. 2012).  A
    one-channel image is padded by 4 in the first convolution, so that 28x28 becomes 32x32.
    """

    classes: int
    convolution: Form | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], train: bool) -> Float[Array, "n classes"]:
        first = 4 if x.shape[-1] == 1 else 2
        for features, kernel, padding, pool in (
            (128, 5, first, max_pool),
            (192, 5, 2, max_pool),
            (256, 3, 1, no_pool),
            (192, 3, 1, no_pool),
            (192, 3, 1, max_pool),
        ):
            x = pool(nn.relu(Conv(features, kernel, padding, form=self.convolution)(x)))
        return Dense(self.classes)(flat(x))


class VGG11(nn.Module):
    """Eight 3x3 convolutions with norm and ReLU, five 2x2 max poolings, one dense layer.

    Simonyan & Zisserman 2015, configuration A with norms.  A one-channel image is padded by 3 in
    the first convolution, so that 28x28 becomes 32x32.

    Attributes:
        classes: logits.
        stages: channels of the convolutions before each pooling.
        norm: after every convolution.
        convolution: how convolutions are computed.
    """

    classes: int
    stages: tuple[tuple[int, ...], ...] = ((64,), (128,), (256, 256), (512, 512), (512, 512))
    norm: Callable = instance_norm
    convolution: Form | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], train: bool) -> Float[Array, "n classes"]:
        padding = 3 if x.shape[-1] == 1 else 1
        for stage in self.stages:
            for features in stage:
                x = Conv(features, padding=padding, form=self.convolution)(x)
                x, padding = nn.relu(self.norm(x, train)), 1
            x = max_pool(x)
        return Dense(self.classes)(flat(x))


class ResNet18(nn.Module):
    """Four stages of two residual blocks, 64 to 512 channels wide; a dense layer (He et al. 2016).

    The form for small images: a 3x3 first convolution, no pooling after it.

    Attributes:
        classes: logits.
        widths: channels of each stage.
        norm: after every convolution.
        stride: of the two convolutions that a stage but the first begins with.
        halve: what follows those two instead of a stride: no pooling, or average pooling.
        last_pool: before the dense layer.
        convolution: how convolutions are computed.
    """

    classes: int
    widths: tuple[int, ...] = (64, 128, 256, 512)
    norm: Callable = instance_norm
    stride: int = 2
    halve: Callable = no_pool
    last_pool: Callable = partial(average_pool, size=4)
    convolution: Form | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], train: bool) -> Float[Array, "n classes"]:
        x = nn.relu(self.norm(self._conv(self.widths[0], 3, 1)(x), train))
        for stage, features in enumerate(self.widths):
            x = self._block(x, features, stage > 0, train)
            x = self._block(x, features, False, train)
        return Dense(self.classes)(flat(self.last_pool(x)))

    def _block(self, x: Array, features: int, smaller: bool, train: bool) -> Array:
        """relu(x' + norm(conv(relu(norm(conv(x)))))), x' being x or norm(conv(x))."""
        stride, pool = (self.stride, self.halve) if smaller else (1, no_pool)
        y = pool(nn.relu(self.norm(self._conv(features, 3, stride)(x), train)))
        y = self.norm(self._conv(features, 3, 1)(y), train)
        if smaller:
            x = self.norm(pool(self._conv(features, 1, stride)(x)), train)
        return nn.relu(x + y)

    def _conv(self, features: int, kernel: int, stride: int) -> Conv:
        return Conv(features, kernel, kernel // 2, stride, bias=False, form=self.convolution)


AVERAGING: dict[str, Any] = {"stride": 1, "halve": average_pool, "last_pool": no_pool}
"""ResNet18 with average pooling in place of strides, and none at the end (Zhao et al. 2021)."""


ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {
    "convnet": ConvNet,
    "mlp": MLP,
    "lenet": LeNet,
    "alexnet": AlexNet,
    "vgg11": VGG11,
    "vgg11bn": partial(VGG11, norm=batch_norm),
    "resnet18": ResNet18,
    "resnet18bn": partial(ResNet18, norm=batch_norm),
    "resnet18_ap": partial(ResNet18, **AVERAGING),
    "resnet18bn_ap": partial(ResNet18, norm=batch_norm, **AVERAGING),
}
"""The architectures by the names the command line knows."""
