"""What networks are made of: PyTorch's semantics, on images `[n, height, width, channel]`.

Weights and biases start as U(-1/sqrt(fan_in), 1/sqrt(fan_in)), PyTorch's default, on which the
published results rest.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int8

from gm_jax.nn.barrier import not_fused
from gm_jax.nn.convolution import Form, conv2d
from gm_jax.nn.windows import window_spread, window_sum


def fan_in_uniform(fan_in: int) -> nn.initializers.Initializer:
    """U(-1/sqrt(fan_in), 1/sqrt(fan_in)): PyTorch's default for weights and biases alike."""
    bound = 1 / math.sqrt(fan_in)

    def init(key, shape, dtype=float):
        # drawn in a row, the same numbers: the CPU compiler takes a third of the time
        row = jax.random.uniform(key, (math.prod(shape),), dtype, -bound, bound)
        return row.reshape(shape)

    return init


class Conv(nn.Module):
    """Square convolution, zero padding on every side.

    `form` is how it is computed (`convolution.FORMS`; `None`: as is best on this platform).
    """

    features: int
    kernel: int = 3
    padding: int = 1
    stride: int = 1
    bias: bool = True
    form: Form | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 features"]:
        shape = (self.kernel, self.kernel, x.shape[-1], self.features)
        init = fan_in_uniform(math.prod(shape[:3]))
        kernel = self.param("kernel", init, shape)
        y = conv2d(x, kernel, (self.padding, self.padding), self.form, self.stride)
        if not self.bias:
            return y
        bias = self.param("bias", init, (self.features,))
        # the bias's gradient is then a window's sum: jax 0.10 fuses a plain one with what is
        # summed, strided and on one core, up to half of VGG11's gradients on a CPU
        of_images = jnp.broadcast_to(bias, (len(y), 1, 1, self.features))
        return y + window_spread(of_images, y.shape[1:3])


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
                running_var.value = 0.9 * running_var.value + 0.1 * var * (n / max(n - 1, 1))
        else:
            mean, var = running_mean.value, running_var.value
        factor = scale * jax.lax.rsqrt(var + 1e-5)
        mean, factor, bias = (t[None, None, None] for t in (mean, factor, bias))
        return (x - mean) * factor + bias


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
        var = _not_negative(window_sum(x * x, image) / math.prod(image) - mean * mean)
        factor = scale[None, None, None] * jax.lax.rsqrt(var + 1e-5)
        shift = bias[None, None, None] - mean * factor
        return x * window_spread(factor, image) + window_spread(shift, image)


class LayerNorm(nn.Module):
    """(x - mean) / sqrt(variance + 1e-5) * scale + bias, over one image.

    A scale and a bias for each position.  Flax's own is the same, but for the variance's derivative
    (see `_not_negative`).
    """

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
        scale = self.param("scale", nn.initializers.ones, x.shape[1:])
        bias = self.param("bias", nn.initializers.zeros, x.shape[1:])
        mean, var = (t[:, None, None, None] for t in _moments(x, (1, 2, 3)))
        return (x - mean) * (jax.lax.rsqrt(var + 1e-5) * scale[None]) + bias[None]


class GroupNorm(nn.Module):
    """(x - mean) / sqrt(variance + 1e-5) * scale + bias, over a group of one image's channels.

    A scale and a bias for each channel.  Flax's own is the same, but for the variance's derivative
    (see `_not_negative`).  Raises `ValueError` where the channels do not make equal groups.
    """

    groups: int

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
        *shape, channels = x.shape
        if channels % self.groups:
            raise ValueError(f"{channels} channels do not make {self.groups} equal groups")
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        size = channels // self.groups
        moments = _moments(x.reshape(*shape, self.groups, size), (1, 2, 4))
        mean, var = (jnp.repeat(t, size, -1)[:, None, None] for t in moments)
        factor = jax.lax.rsqrt(var + 1e-5) * scale[None, None, None]
        return (x - mean) * factor + bias[None, None, None]


def _moments(x: Float[Array, "n ..."], axes: tuple[int, ...]) -> tuple[Array, Array]:
    """Mean and (biased) variance over `axes`."""
    mean, square = (jnp.mean(t, axes) for t in (x, jnp.square(x)))
    return mean, _not_negative(square - jnp.square(mean))


def _not_negative(variance: Float[Array, "..."]) -> Float[Array, "..."]:
    """max(variance, 0): rounding must not make a constant image's variance negative.

    The derivative is 1, whatever the sign of the rounding.
    """
    return variance + jax.lax.stop_gradient(jnp.where(variance < 0, -variance, 0))


def no_norm(x: Float[Array, "n h w c"], train: bool) -> Float[Array, "n h w c"]:
    """The identity."""
    return x


def batch_norm(x: Float[Array, "n h w c"], train: bool) -> Float[Array, "n h w c"]:
    """(x - mean) / sqrt(variance + 1e-5) scale + bias, over images, height and width.

    Mean and variance are the batch's in training, and else the running ones.
    """
    return BatchNorm()(x, train)


def layer_norm(x: Float[Array, "n h w c"], train: bool) -> Float[Array, "n h w c"]:
    """Over height, width and channel of one image, with a scale and shift for each position."""
    return LayerNorm()(x)


def instance_norm(x: Float[Array, "n h w c"], train: bool) -> Float[Array, "n h w c"]:
    """Over height and width of one channel of one image: one group a channel."""
    return InstanceNorm()(x)


def group_norm(x: Float[Array, "n h w c"], train: bool) -> Float[Array, "n h w c"]:
    """Over height, width and the channels of one of 4 groups."""
    return GroupNorm(4)(x)


def leaky_relu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """x, or 0.01 x where negative."""
    return nn.leaky_relu(x, 0.01)


def average_pool(x: Float[Array, "n h w c"], size: int = 2) -> Float[Array, "n h2 w2 c"]:
    """Mean of windows of `size` x `size` that touch; rows and columns left over are left out.

    Raises `ValueError` where not one window fits.
    """
    return window_sum(_whole_windows(x, size), (size, size)) / size**2


def max_pool(x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c"]:
    """Maximum of 2x2 windows, stride 2; an odd last row or column is left out.

    The derivative of every order goes to one pixel of a window: of equal ones to the first, row by
    row, as in PyTorch; of a window with NaN, to its first NaN.  Raises `ValueError` where not one
    window fits.
    """
    x = _whole_windows(x, 2)
    chosen = window_spread(_place_of_largest(x), (2, 2)) == _places(*x.shape[1:3])[None]
    return window_sum(jnp.where(chosen, x, 0), (2, 2))


def _places(h: int, w: int) -> Int8[np.ndarray, "h w 1"]:
    """Of each pixel its place in its 2x2 window, 0 to 3, row by row."""
    row, column = (np.arange(size, dtype=np.int8) % 2 for size in (h, w))
    return (2 * row[:, None] + column)[:, :, None]


@not_fused
def _place_of_largest(x):
    """The place of each 2x2 window's largest pixel; the first of equal ones, or of NaNs.

    `[n, h, w, c] -> [n, h / 2, w / 2, c]`, int8.  Not fused on a CPU, so that all of a window's
    pixels, in every pass and derivative, are compared with one number: XLA computes a pixel again
    in another fusion, to another last bit, and of equal ones might choose two, or none.  (Elsewhere
    it may compute the place for each pixel, by the same instructions.)  The derivatives of
    `jnp.max` and `jnp.maximum` ask which operand *equals* the maximum, and are lost that way.
    """
    # Strided slices: of a maximum over a reshape to windows XLA's algebraic simplifier (jax 0.10,
    # CPU) compiled wrong derivatives where a mean of the features followed.
    pixels = [x[:, row::2, column::2] for row in (0, 1) for column in (0, 1)]
    return jnp.argmax(jnp.stack(pixels), axis=0).astype(jnp.int8)


def _whole_windows(x: Float[Array, "n h w c"], size: int) -> Float[Array, "n h2 w2 c"]:
    h, w = (s // size * size for s in x.shape[1:3])
    if min(h, w) == 0:
        raise ValueError(f"{x.shape[1]}x{x.shape[2]} pixels are left to pool {size}x{size} at once")
    return x[:, :h, :w]


def no_pool(x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
    """The identity."""
    return x


def flat(x: Float[Array, "n h w c"]) -> Float[Array, "n features"]:
    """Height, width, channel in a row."""
    return x.reshape(len(x), -1)
