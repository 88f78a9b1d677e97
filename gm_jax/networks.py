"""Networks: Flax modules, and the three functions by which the rest of the library knows a network.

All images are `[n, height, width, channel]`.  Weights and biases start as
U(-1/sqrt(fan_in), 1/sqrt(fan_in)), PyTorch's default, on which the published results rest.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from gm_jax.convolution import Form, conv2d
from gm_jax.windows import window_spread, window_sum

Params = Any
"""A network's trainable tensors: any pytree; the last axis of a tensor is its output unit."""
Stats = Any
"""What a network remembers besides: BatchNorm's running statistics; empty for all others."""


class Network(NamedTuple):
    """A network as three pure functions.

    Attributes:
        init: `key -> (params, stats)`, a fresh network.
        apply: `(params, stats, x [n, h, w, channel]) -> logits [n, classes]`, each image by itself.
        train: `(params, stats, x) -> (logits, stats)`, in training mode: BatchNorm normalises by
            the batch and updates `stats`.
    """

    init: Callable[[Key[Array, ""]], tuple[Params, Stats]]
    apply: Callable[[Params, Stats, Float[Array, "n h w c"]], Float[Array, "n classes"]]
    train: Callable[
        [Params, Stats, Float[Array, "n h w c"]], tuple[Float[Array, "n classes"], Stats]
    ]


def from_functions(init: Callable, apply: Callable) -> Network:
    """The network of a plain pair `init(key) -> params`, `apply(params, x) -> logits`."""
    return Network(
        init=lambda key: (init(key), {}),
        apply=lambda params, stats, x: apply(params, x),
        train=lambda params, stats, x: (apply(params, x), stats),
    )


def from_flax(module: nn.Module, image_shape: tuple[int, int, int]) -> Network:
    """The network of a Flax linen module with `__call__(x, train: bool)`.

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

    return Network(init, apply, train)


# --- layers ---------------------------------------------------------------------------------------


def fan_in_uniform(fan_in: int) -> nn.initializers.Initializer:
    """U(-1/sqrt(fan_in), 1/sqrt(fan_in)): PyTorch's default for weights and biases alike."""
    bound = 1 / math.sqrt(fan_in)

    def init(key, shape, dtype=float):
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


class Conv(nn.Module):
    """3x3-style convolution, stride 1, zero padding on every side, with bias.

    `form` is how it is computed (`convolution.FORMS`; `None`: as is best on this platform).
    """

    features: int
    kernel: int = 3
    padding: int = 1
    form: Form | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 features"]:
        shape = (self.kernel, self.kernel, x.shape[-1], self.features)
        init = fan_in_uniform(math.prod(shape[:3]))
        kernel = self.param("kernel", init, shape)
        bias = self.param("bias", init, (self.features,))
        y = conv2d(x, kernel, (self.padding, self.padding), self.form)
        return y + bias[None, None, None]


class Dense(nn.Module):
    """x @ kernel + bias."""

    features: int

    @nn.compact
    def __call__(self, x: Float[Array, "n fan_in"]) -> Float[Array, "n features"]:
        init = fan_in_uniform(x.shape[-1])
        kernel = self.param("kernel", init, (x.shape[-1], self.features))
        bias = self.param("bias", init, (self.features,))
        return x @ kernel + bias[None]


class BatchNorm(nn.Module):
    """Batch normalisation with PyTorch's statistics: momentum 0.1, *unbiased* running variance.

    (Flax's own keeps the biased variance, which is off by n / (n - 1).)
    """

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], train: bool) -> Float[Array, "n h w c"]:
        shape = x.shape[-1:]
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape)
        scale = self.param("scale", nn.initializers.ones, shape)
        bias = self.param("bias", nn.initializers.zeros, shape)
        if train:
            mean, var = jnp.mean(x, (0, 1, 2)), jnp.var(x, (0, 1, 2))
            n = x.size // x.shape[-1]
            if not self.is_initializing():
                running_mean.value = 0.9 * running_mean.value + 0.1 * mean
                running_var.value = 0.9 * running_var.value + 0.1 * var * (n / (n - 1))
        else:
            mean, var = running_mean.value, running_var.value
        return (x - mean[None, None, None]) * (scale * jax.lax.rsqrt(var + 1e-5))[
            None, None, None
        ] + bias[None, None, None]


class InstanceNorm(nn.Module):
    """(x - mean) / sqrt(variance + 1e-5) * scale + bias, over one channel of one image.

    Flax's GroupNorm with groups of one channel is the same; this one is faster on a CPU.
    """

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:])
        bias = self.param("bias", nn.initializers.zeros, x.shape[-1:])
        image = x.shape[1:3]
        mean = window_sum(x, image) / math.prod(image)
        # rounding must not make a constant image's variance negative
        var = jnp.maximum(window_sum(x * x, image) / math.prod(image) - mean * mean, 0)
        factor = scale[None, None, None] * jax.lax.rsqrt(var + 1e-5)
        shift = bias[None, None, None] - mean * factor
        return x * window_spread(factor, image) + window_spread(shift, image)


def no_norm(x: Float[Array, "n h w c"], train: bool) -> Float[Array, "n h w c"]:
    """The identity."""
    return x


def batch_norm(x: Float[Array, "n h w c"], train: bool) -> Float[Array, "n h w c"]:
    """Over images, height and width."""
    return BatchNorm()(x, train)


def layer_norm(x: Float[Array, "n h w c"], train: bool) -> Float[Array, "n h w c"]:
    """Over height, width and channel of one image, with a scale and shift for each position."""
    axes = (-3, -2, -1)
    return nn.LayerNorm(epsilon=1e-5, reduction_axes=axes, feature_axes=axes)(x)


def instance_norm(x: Float[Array, "n h w c"], train: bool) -> Float[Array, "n h w c"]:
    """Over height and width of one channel of one image: one group a channel."""
    return InstanceNorm()(x)


def group_norm(x: Float[Array, "n h w c"], train: bool) -> Float[Array, "n h w c"]:
    """Over height, width and the channels of one of 4 groups."""
    return nn.GroupNorm(num_groups=4, epsilon=1e-5)(x)


def leaky_relu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """x, or 0.01 x where negative."""
    return nn.leaky_relu(x, 0.01)


def average_pool(x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c"]:
    """Mean of 2x2 windows, stride 2; an odd last row or column is left out."""
    _, h, w, _ = x.shape
    return window_sum(x[:, : h // 2 * 2, : w // 2 * 2], (2, 2)) / 4


def max_pool(x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c"]:
    """Maximum of 2x2 windows, stride 2; an odd last row or column is left out.

    A reshape and a reduction: XLA's window operations and their gradients are slow on the CPU.
    """
    n, h, w, c = x.shape
    x = x[:, : h // 2 * 2, : w // 2 * 2]
    return jnp.max(x.reshape(n, h // 2, 2, w // 2, 2, c), (2, 4))


def no_pool(x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
    """The identity."""
    return x


# --- architectures --------------------------------------------------------------------------------


class ConvNet(nn.Module):
    """`depth` blocks of 3x3 convolution, norm, activation, 2x2 pooling; then one dense layer.

    The network of the dataset-condensation literature (Gidaris & Komodakis 2018; Zhao et al. 2021).
    A one-channel 28x28 image is padded by 3 in the first convolution, so that it becomes 32x32.
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
        return Dense(self.classes)(x.reshape(x.shape[0], -1))
