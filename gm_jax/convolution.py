"""Stride-1 convolution that is fast inside loops, under `vmap`, and to any order of derivative.

Three bilinear maps make up everything that gradient matching asks of a convolution: the
convolution itself, its input gradient, and its weight gradient.  The derivative of each is made
of the other two, and the input gradient is again a convolution (of the cotangent with the
flipped, channel-swapped kernel), so two primitives are closed under differentiation:

    convolve(x, w)[n, i, j, o]      = sum_{k, l, c} x[n, i + k - p, j + l - p, c] w[k, l, c, o]
    weight_gradient(x, g)[k, l, c, o] = sum_{n, i, j} x[n, i + k - p, j + l - p, c] g[n, i, j, o]

Why not `lax.conv_general_dilated` alone: on the CPU, XLA runs its weight gradient inside a loop
hundreds of times slower than outside (jax-ml/jax#12868), and under `vmap` it becomes a grouped
convolution, slow on the GPU as well (jax-ml/jax#13800).  On the CPU both primitives therefore
lower to canonical NHWC/HWIO convolutions and matrix products only; elsewhere to XLA's own.

Both carry a leading group axis `G`, one weight (gradient) each: `vmap` over images only is folded
into the batch, any other `vmap` into `G`.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float

_LAYOUT = ("NHWC", "HWIO", "NHWC")

Padding = tuple[int, int]
"""Zeros added on (each side of the height, each side of the width)."""


def conv2d(
    x: Float[Array, "n h w i"], kernel: Float[Array, "kh kw _ o"], padding: Padding = (0, 0)
) -> Float[Array, "n oh ow o"]:
    """Cross-correlation with stride 1 (what the field calls a convolution), zero padding.

    Output height `oh = h + 2 * padding[0] - kh + 1`, likewise the width.  Forward and reverse
    mode, any order, any nesting of `vmap`.  Raises `ValueError` where the channels differ or the
    kernel is larger than the padded image.
    """
    if x.shape[-1] != kernel.shape[2]:
        raise ValueError(f"image has {x.shape[-1]} channels, kernel takes {kernel.shape[2]}")
    dtype = jnp.result_type(x, kernel)
    x, kernel = x.astype(dtype)[None], kernel.astype(dtype)[None]
    return _convolve_p.bind(x, kernel, padding=tuple(padding))[0]


# --- what the primitives compute: x [G,N,H,W,I], kernel [G,k,l,I,O], g [G,N,h,w,O] ----------------


def _output_size(size: int, kernel: int, padding: int) -> int:
    output = size + 2 * padding - kernel + 1
    if output < 1:
        raise ValueError(f"a kernel of {kernel} does not fit in {size} pixels padded by {padding}")
    return output


def _convolve_shape(x, kernel, *, padding):
    h, w = map(_output_size, x.shape[2:4], kernel.shape[1:3], padding)
    return x.update(shape=(*x.shape[:2], h, w, kernel.shape[-1]))


def _weight_gradient_shape(x, g, *, padding):
    kh, kw = (s + 2 * p - o + 1 for s, p, o in zip(x.shape[2:4], padding, g.shape[2:4]))
    return x.update(shape=(x.shape[0], kh, kw, x.shape[-1], g.shape[-1]))


def _lax_conv(x, kernel, padding):
    return lax.conv_general_dilated(
        x, kernel, (1, 1), [(p, p) for p in padding], dimension_numbers=_LAYOUT
    )


def _lax_weight_gradient(x, g, padding):
    """XLA's own form: a convolution with the batch as its feature axis."""
    return lax.conv_general_dilated(
        x, g, (1, 1), [(p, p) for p in padding], dimension_numbers=("CHWN", "IHWO", "HWNC")
    )


def _matmul_weight_gradient(x, g, padding):
    """One product per kernel row, of the column shifts of `x` side by side, with `g`.

    One-channel and colour images have so few columns that a single product over all shifts
    (im2col) is best; wider ones would not fit the cache that way.
    """
    n, h, w, o = g.shape
    (ph, pw), i = padding, x.shape[-1]
    kh, kw = x.shape[1] + 2 * ph - h + 1, x.shape[2] + 2 * pw - w + 1
    x = jnp.pad(x, ((0, 0), (ph, ph), (pw, pw), (0, 0)))
    g = g.reshape(n * h * w, o)
    if i * kh * kw <= 128:
        shifts = [x[:, k : k + h, l : l + w] for k in range(kh) for l in range(kw)]
        patches = jnp.concatenate(shifts, axis=-1).reshape(n * h * w, kh * kw * i)
        return (patches.T @ g).reshape(kh, kw, i, o)
    columns = jnp.concatenate([x[:, :, l : l + w] for l in range(kw)], axis=-1)
    rows = [columns[:, k : k + h].reshape(n * h * w, kw * i).T @ g for k in range(kh)]
    return jnp.stack(rows).reshape(kh, kw, i, o)


def _one_by_one(function: Callable) -> Callable:
    """The groups one after another: each then runs at the full speed of the ungrouped form."""

    def grouped(a, b, *, padding):
        if a.shape[0] == 1:
            return function(a[0], b[0], padding)[None]
        return lax.map(lambda ab: function(*ab, padding), (a, b))

    return grouped


def _all_at_once(function: Callable) -> Callable:
    """All groups in one batched operation."""

    def grouped(a, b, *, padding):
        return jax.vmap(functools.partial(function, padding=padding))(a, b)

    return grouped


# --- the primitives -------------------------------------------------------------------------------


def _define(name: str, shape: Callable, cpu: Callable, elsewhere: Callable) -> Primitive:
    primitive = Primitive(name)
    primitive.def_abstract_eval(shape)
    primitive.def_impl(jax.jit(primitive.bind, static_argnames="padding"))
    lower = functools.partial(mlir.lower_fun, multiple_results=False)
    mlir.register_lowering(primitive, lower(elsewhere))
    mlir.register_lowering(primitive, lower(cpu), platform="cpu")
    return primitive


_convolve_p = _define(
    "gm_convolve", _convolve_shape, _one_by_one(_lax_conv), _all_at_once(_lax_conv)
)
_weight_gradient_p = _define(
    "gm_weight_gradient",
    _weight_gradient_shape,
    _all_at_once(_matmul_weight_gradient),
    _all_at_once(_lax_weight_gradient),
)


# --- derivatives: each bilinear map's two transposes ----------------------------------------------


def _input_gradient(g, kernel, padding):
    """`convolve` transposed by its image: the cotangent, convolved with the turned kernel."""
    turned = jnp.swapaxes(kernel[:, ::-1, ::-1], -1, -2)
    rest = tuple(k - 1 - p for k, p in zip(kernel.shape[1:3], padding))
    if min(rest) >= 0:
        return _convolve_p.bind(g, turned, padding=rest)
    # more padding than the kernel reaches: those rim outputs never saw a pixel, so drop them
    cut = [slice(max(0, -r), g.shape[a] - max(0, -r)) for a, r in enumerate(rest, start=2)]
    return _convolve_p.bind(g[:, :, cut[0], cut[1]], turned, padding=tuple(max(0, r) for r in rest))


def _convolve_transpose_x(g, x, kernel, *, padding):
    return _input_gradient(g, kernel, padding)


def _convolve_transpose_kernel(g, x, kernel, *, padding):
    return _weight_gradient_p.bind(x, g, padding=padding)


def _weight_gradient_transpose_x(kernel, x, g, *, padding):
    return _input_gradient(g, kernel, padding)


def _weight_gradient_transpose_g(kernel, x, g, *, padding):
    return _convolve_p.bind(x, kernel, padding=padding)


ad.defbilinear(_convolve_p, _convolve_transpose_x, _convolve_transpose_kernel)
ad.defbilinear(_weight_gradient_p, _weight_gradient_transpose_x, _weight_gradient_transpose_g)


# --- vmap -----------------------------------------------------------------------------------------


def _fold(a, axis: int | None, into: int, size: int):
    """Merges the mapped axis of `a` (repeated if there is none) into axis `into` of the rest."""
    if axis is None:
        a = jnp.broadcast_to(jnp.expand_dims(a, into), (*a.shape[:into], size, *a.shape[into:]))
    else:
        a = jnp.moveaxis(a, axis, into)
    return a.reshape(*a.shape[:into], -1, *a.shape[into + 2 :])


def _batch_groups(primitive: Primitive, args, axes, padding):
    size = next(a.shape[d] for a, d in zip(args, axes) if d is not None)
    folded = [_fold(a, d, 0, size) for a, d in zip(args, axes)]
    result = primitive.bind(*folded, padding=padding)
    return result.reshape(size, -1, *result.shape[1:]), 0


def _batch_convolve(args, axes, *, padding):
    (x, kernel), (x_axis, kernel_axis) = args, axes
    if kernel_axis is not None:
        return _batch_groups(_convolve_p, args, axes, padding)
    size = x.shape[x_axis]
    result = _convolve_p.bind(_fold(x, x_axis, 1, size), kernel, padding=padding)
    return result.reshape(result.shape[0], size, -1, *result.shape[2:]), 1


def _batch_weight_gradient(args, axes, *, padding):
    return _batch_groups(_weight_gradient_p, args, axes, padding)


batching.primitive_batchers[_convolve_p] = _batch_convolve
batching.primitive_batchers[_weight_gradient_p] = _batch_weight_gradient
