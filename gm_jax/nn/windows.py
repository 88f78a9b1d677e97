"""Sums over windows of pixels, and their transpose: what average pooling and instance norm are of.

`window_sum` and `window_spread` are each the other's transpose, so two primitives are closed under
differentiation.  They stand here because XLA's own reduction over such windows, and the derivative
it is given, take a third of ConvNet's time on a CPU (docs/performance_notes.md).
"""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float, Num

from gm_jax.nn.barrier import not_fused

Window = Sequence[int]
"""Height and width in pixels; a divisor of the image's."""


def window_sum(x: Float[Array, "n h w c"], window: Window) -> Float[Array, "n h2 w2 c"]:
    """Sums of windows that tile the image: `h2 = h / window[0]`, `w2 = w / window[1]`.

    Forward and reverse mode, any order, any nesting of `vmap`.  Raises `ValueError` where the
    window does not divide the image.
    """
    if x.shape[1] % window[0] or x.shape[2] % window[1]:
        raise ValueError(f"windows of {window} do not tile an image of {x.shape[1:3]}")
    return _sum_p.bind(x, window=tuple(window))


def window_spread(x: Num[Array, "n h w c"], window: Window) -> Num[Array, "n h2 w2 c"]:
    """Each pixel repeated over a window: `h2 = h * window[0]`, `w2 = w * window[1]`."""
    return _spread_p.bind(x, window=tuple(window))


def _sum(x, *, window):
    n, h, w, c = x.shape
    kh, kw = window
    if (kh, kw) == (h, w):
        return _whole_sum(x)
    x = x.reshape(n, h // kh, kh, w // kw, kw, c)
    places = [x[:, :, k, :, l] for k in range(kh) for l in range(kw)]
    return sum(places[1:], places[0])


def _whole_sum(x):
    """Over the image: up to eight strips of its rows are added up, and then what is in the strip.

    The strips' sum is fused with what is summed, so on a CPU that is not written to memory and read
    again: ConvNet's gradients take 0.85 of the time that a product with ones over all pixels gave
    them.  Fewer strips are slower, and so are more, which XLA no longer fuses.
    """
    n, h, w, c = x.shape
    strips = math.gcd(h, 8)
    x = x.reshape(n, strips, h // strips * w * c)  # one loop: several compile twice as long
    first, *others = [x[:, k] for k in range(strips)]
    return _sum_of_pixels(sum(others, first).reshape(n, -1, c))[:, None, None]


@not_fused
def _sum_of_pixels(x):
    """`[n, pixels, c] -> [n, c]`.

    Not fused, because XLA would sum over what it computes on the way strided and on one core.  A
    product with ones is as fast, but a CPU compiles each such product anew.
    """
    return jnp.sum(x, 1)


def _spread(x, *, window):
    n, h, w, c = x.shape
    spread = jnp.broadcast_to(x[:, :, None, :, None], (n, h, window[0], w, window[1], c))
    return spread.reshape(n, h * window[0], w * window[1], c)


def _sum_shape(x, *, window):
    n, h, w, c = x.shape
    return x.update(shape=(n, h // window[0], w // window[1], c))


def _spread_shape(x, *, window):
    n, h, w, c = x.shape
    return x.update(shape=(n, h * window[0], w * window[1], c))


def _batch(primitive: Primitive, args, axes, *, window):
    """The mapped axis is merged into the images' and cut out again."""
    x = jnp.moveaxis(args[0], axes[0], 0)
    result = primitive.bind(x.reshape(-1, *x.shape[2:]), window=window)
    return result.reshape(*x.shape[:2], *result.shape[1:]), 0


def _define(name: str, function, shape) -> Primitive:
    primitive = Primitive(name)
    primitive.def_abstract_eval(shape)
    primitive.def_impl(jax.jit(primitive.bind, static_argnames="window"))
    mlir.register_lowering(primitive, mlir.lower_fun(function, multiple_results=False))
    batching.primitive_batchers[primitive] = functools.partial(_batch, primitive)
    return primitive


_sum_p = _define("gm_window_sum", _sum, _sum_shape)
_spread_p = _define("gm_window_spread", _spread, _spread_shape)
ad.deflinear2(_sum_p, lambda g, x, *, window: [_spread_p.bind(g, window=window)])
ad.deflinear2(_spread_p, lambda g, x, *, window: [_sum_p.bind(g, window=window)])
