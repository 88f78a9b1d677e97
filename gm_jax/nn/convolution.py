"""Convolution that is fast inside loops, under `vmap`, and to any order of derivative.

Three bilinear maps make up everything that gradient matching asks of a convolution: the
convolution itself, its input gradient, and its weight gradient.  They are the three derivatives of
one trilinear form of image, kernel and cotangent,

    sum_{n, i, j, k, l, c, o} x[n, i + k - p, j + l - p, c] w[k, l, c, o] g[n, i, j, o],

    convolve(x, w)[n, i, j, o]          its derivative by g,
    input_gradient(g, w)[n, i, j, c]    its derivative by x,
    weight_gradient(x, g)[k, l, c, o]   its derivative by w,

so the derivative of each is made of the other two, and three primitives are closed under
differentiation.

Why not `lax.conv_general_dilated` alone: on the CPU, XLA runs its weight gradient inside a loop
hundreds of times slower than outside (jax-ml/jax#12868), and under `vmap` it becomes a grouped
convolution, slow on the GPU as well (jax-ml/jax#13800).  How the three maps are computed is
therefore a choice, a `Form`, which every derivative keeps.

All carry a leading group axis `G`, one kernel (or its gradient) each: `vmap` over images only is
folded into the batch, any other `vmap` into `G`.
"""

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float

from gm_jax.nn import places, platforms, winograd
from gm_jax.nn.barrier import not_fused

_LAYOUT = ("NHWC", "HWIO", "NHWC")

Padding = tuple[int, int]
"""Zeros added on (each side of the height, each side of the width)."""


class Form(NamedTuple):
    """How the three maps are computed, group by group; every form is the same sum.

    Attributes:
        convolve: `(x [G,N,H,W,I], kernel [G,k,l,I,O], padding) -> [G,N,h,w,O]`.
        input_gradient: `(g [G,N,h,w,O], kernel [G,k,l,I,O], padding) -> [G,N,H,W,I]`.
        weight_gradient: `(x [G,N,H,W,I], g [G,N,h,w,O], padding) -> [G,k,l,I,O]`.
    """

    convolve: Callable
    input_gradient: Callable
    weight_gradient: Callable


def conv2d(
    x: Float[Array, "n h w i"],
    kernel: Float[Array, "kh kw _ o"],
    padding: Padding = (0, 0),
    form: Form | None = None,
    stride: int = 1,
) -> Float[Array, "n oh ow o"]:
    """Cross-correlation (what the field calls a convolution) with zero padding.

    Output height `oh = (h + 2 * padding[0] - kh) // stride + 1`, likewise the width.  Forward and
    reverse mode, any order, any nesting of `vmap`.  `form` is one of `FORMS`; its default is this
    platform's (`gm_jax.nn.platforms`).  Raises `ValueError` where the channels differ or the kernel
    is larger than the padded image.

    Examples:
        >>> x = jnp.array([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 2, 2, 1)
        >>> conv2d(x, jnp.ones((2, 2, 1, 1))).item()
        10.0
    """
    if x.shape[-1] != kernel.shape[2]:
        raise ValueError(f"image has {x.shape[-1]} channels, kernel takes {kernel.shape[2]}")
    for size, side, pad in zip(x.shape[1:3], kernel.shape[:2], padding):
        _output_size(size, side, pad)  # raises
    dtype = jnp.result_type(x, kernel)
    x, kernel = x.astype(dtype), kernel.astype(dtype)
    form = FORMS[platforms.defaults().convolution] if form is None else form
    convolve = lambda x, kernel, padding: _convolve_p.bind(
        x[None], kernel[None], padding=tuple(padding), form=form
    )[0]
    if stride == 1:
        return convolve(x, kernel, padding)
    first, *others = [convolve(*phase, (0, 0)) for phase in _phases(x, kernel, padding, stride)]
    return sum(others, first)


def _phases(
    x: Array, kernel: Array, padding: Padding, stride: int
) -> Iterator[tuple[Array, Array]]:
    """Images and kernels whose convolutions of stride 1, without padding, sum to the strided one.

    A kernel's place (k, l) meets pixels of the rows k + stride * i and the columns l + stride * j
    alone, so each remainder of (k, l) is a phase.  Phases of equally many places are one
    convolution, of their channels side by side: 3x3 places by 2 are four phases, of 2x2, 2x1, 1x2
    and 1x1 places; 4x4 by 4 are sixteen of one place, so one convolution.
    """
    axes = zip(x.shape[1:3], kernel.shape[:2], padding)
    last = [(_output_size(*axis) - 1) // stride for axis in axes]
    x = jnp.pad(x, ((0, 0), *((p, p) for p in padding), (0, 0)))
    alike: dict[tuple[int, ...], list[tuple[Array, Array]]] = {}
    for row, column in itertools.product(*(range(min(stride, k)) for k in kernel.shape[:2])):
        part = kernel[row::stride, column::stride]
        h, w = (end + k for end, k in zip(last, part.shape))
        pixels = x[:, row::stride, column::stride][:, :h, :w]
        alike.setdefault(part.shape, []).append((pixels, part))
    for phases in alike.values():
        images, kernels = zip(*phases)
        yield jnp.concatenate(images, axis=-1), jnp.concatenate(kernels, axis=2)


# --- the forms ------------------------------------------------------------------------------------


def _lax_conv(x, kernel, padding):
    return lax.conv_general_dilated(
        x, kernel, (1, 1), [(p, p) for p in padding], dimension_numbers=_LAYOUT
    )


def _lax_weight_gradient(x, g, padding):
    """XLA's own form: a convolution with the batch as its feature axis."""
    return lax.conv_general_dilated(
        x, g, (1, 1), [(p, p) for p in padding], dimension_numbers=("CHWN", "IHWO", "HWNC")
    )


def _by_convolution(convolve: Callable) -> Callable:
    """The input gradient as a convolution: of the cotangent with the turned kernel.

    That has its rows, columns and channels the other way round.
    """

    def input_gradient(g, kernel, padding):
        turned = jnp.swapaxes(kernel[::-1, ::-1], -1, -2)
        rest = [k - 1 - p for k, p in zip(kernel.shape[:2], padding)]
        # more padding than the kernel reaches: those rim outputs never saw a pixel, so drop them
        cut = [slice(max(0, -r), size - max(0, -r)) for r, size in zip(rest, g.shape[1:3])]
        return convolve(g[:, *cut], turned, tuple(max(0, r) for r in rest))

    return input_gradient


def _canonical_conv(x, kernel, padding):
    """XLA's, but where it is slow on the CPU: one or few channels, and small images (`places`).

    One input channel has been timed with kernels up to 5x5, LeNet's and AlexNet's.  For few output
    channels one product gives what each pixel adds to all its neighbours, to be shifted and summed.
    """
    kh, kw, i, o = kernel.shape
    h, w = (s + 2 * p - k + 1 for s, p, k in zip(x.shape[1:3], padding, (kh, kw)))
    if i == 1 and kh * kw <= 25:
        return _shifted_pixels(x, kernel, padding)
    if i < 16:
        return _lax_conv(x, kernel, padding)
    if kh * kw * o > 128:
        return (places.convolve if _is_small(h, w) else _lax_conv)(x, kernel, padding)
    shares = x @ jnp.moveaxis(kernel, 2, 0).reshape(i, kh * kw * o)
    shares = jnp.pad(shares, ((0, 0), *((p, p) for p in padding), (0, 0)))
    shifted = [shares[:, k : k + h, l : l + w] for k in range(kh) for l in range(kw)]
    parts = [part[..., at * o : (at + 1) * o] for at, part in enumerate(shifted)]
    return sum(parts[1:], parts[0])


@functools.partial(not_fused, static="padding")
def _shifted_pixels(x, kernel, padding):
    """Of one-channel images: the pixels that each place of the kernel meets, times its weights.

    16 images of 28x28 pixels to 128 channels took 0.22 ms where XLA's convolution took 0.50 (jax
    0.10).  Not fused, because a norm's sums would compute it again.
    """
    kh, kw = kernel.shape[:2]
    h, w = (s + 2 * p - k + 1 for s, p, k in zip(x.shape[1:3], padding, (kh, kw)))
    x = jnp.pad(x, ((0, 0), *((p, p) for p in padding), (0, 0)))
    at = itertools.product(range(kh), range(kw))
    first, *others = [x[:, k : k + h, l : l + w] * kernel[None, None, k, l] for k, l in at]
    return sum(others, first)


def _canonical_input_gradient(g, kernel, padding):
    """By `places` for small images, which need no turned kernel in a loop; else a convolution."""
    kh, kw, i, o = kernel.shape
    h, w = (s + k - 1 - 2 * p for s, p, k in zip(g.shape[1:3], padding, (kh, kw)))
    if o >= 16 and kh * kw * i > 128 and _is_small(h, w):
        return places.input_gradient(g, kernel, padding)
    return _by_convolution(_canonical_conv)(g, kernel, padding)


def _is_small(h: int, w: int) -> bool:
    """Whether an output has so few pixels that a product for each place of the kernel is faster.

    16 images of 4x4 pixels and 512 channels took 5.2 ms where XLA's convolution took 8.3, and of
    2x2 pixels 1.3 ms, where one product with the padding took 2.3 and XLA's convolution 124.
    At 7x7 pixels Winograd's tiles are faster: 2.5 ms against 4.1 (256 channels).
    """
    return h * w <= 32


def _matmul_weight_gradient(x, g, padding):
    """One product per kernel row, of the column shifts of `x` side by side, with `g`.

    One-channel and colour images have so few columns that a single product over all shifts
    (im2col) is best; wider ones would not fit the cache that way.
    """
    n, h, w, o = g.shape
    (ph, pw), i = padding, x.shape[-1]
    kh, kw = x.shape[1] + 2 * ph - h + 1, x.shape[2] + 2 * pw - w + 1
    g = g.reshape(n * h * w, o)
    if _is_narrow((kh, kw, i, o)):
        return (_shifts(x, (kh, kw), (h, w), padding).T @ g).reshape(kh, kw, i, o)
    x = jnp.pad(x, ((0, 0), (ph, ph), (pw, pw), (0, 0)))
    columns = jnp.concatenate([x[:, :, l : l + w] for l in range(kw)], axis=-1)
    rows = [columns[:, k : k + h].reshape(n * h * w, kw * i).T @ g for k in range(kh)]
    return jnp.stack(rows).reshape(kh, kw, i, o)


def _products_weight_gradient(x, g, padding):
    """Products of the kernel's rows; of small images with enough channels those of its places."""
    kernel = [s + 2 * p - n + 1 for s, p, n in zip(x.shape[1:3], padding, g.shape[1:3])]
    if _is_small(*g.shape[1:3]) and not _is_narrow((*kernel, x.shape[-1], g.shape[-1])):
        return places.weight_gradient(x, g, padding)
    return _matmul_weight_gradient(x, g, padding)


def _shifts(x, kernel: tuple[int, int], output: tuple[int, int], padding: Padding):
    """What the kernel sees at each output pixel: `[n * h * w, kh * kw * i]` (im2col)."""
    (h, w), (kh, kw) = output, kernel
    x = jnp.pad(x, ((0, 0), *((p, p) for p in padding), (0, 0)))
    shifts = [x[:, k : k + h, l : l + w] for k in range(kh) for l in range(kw)]
    return jnp.concatenate(shifts, axis=-1).reshape(-1, kh * kw * x.shape[-1])


def _one_by_one(function: Callable) -> Callable:
    """The groups one after another: each then runs at the full speed of the ungrouped form."""

    def grouped(a, b, padding):
        if a.shape[0] == 1:
            return function(a[0], b[0], padding)[None]
        return lax.map(lambda ab: function(*ab, padding), (a, b))

    return grouped


def _all_at_once(function: Callable) -> Callable:
    """All groups in one batched operation."""

    def grouped(a, b, padding):
        return jax.vmap(functools.partial(function, padding=padding))(a, b)

    return grouped


def _winograd_conv(x, kernel, padding):
    h, w = (s + 2 * p - 2 for s, p in zip(x.shape[1:3], padding))
    if _suits_winograd(len(x), kernel.shape, h, w):
        return winograd.convolve(x, kernel, padding)
    return _canonical_conv(x, kernel, padding)


def _winograd_input_gradient(g, kernel, padding):
    if _suits_winograd(len(g), kernel.shape, *g.shape[1:3]):
        return winograd.input_gradient(g, kernel, padding)
    return _canonical_input_gradient(g, kernel, padding)


def _winograd_weight_gradient(x, g, padding):
    _, h, w, o = g.shape
    sides = [s + 2 * p - n + 1 for s, p, n in zip(x.shape[1:3], padding, (h, w))]
    if _suits_winograd(len(x), (*sides, x.shape[-1], o), h, w):
        return winograd.weight_gradient(x, g, padding)
    return _products_weight_gradient(x, g, padding)


def _suits_winograd(n: int, kernel: tuple[int, int, int, int], h: int, w: int) -> bool:
    """3x3, with products over the channels long enough to pay for the tiles' sums.

    And with so many tiles that reading the 36 transformed kernels, or writing 36 products, pays:
    with 512 channels in and out and 4x4 pixels, all three maps by tiles took 1.0, 0.7 and 0.6 times
    as long as by `places` with 16, 32 and 64 images, with 256 channels 0.8 with 16.
    """
    share = 8192 if _is_small(h, w) else 4096  # numbers of a place of the kernel, for each tile
    *size, i, o = kernel
    enough = n * winograd.tiles(h, w) * share >= i * o
    return size == [3, 3] and min(i, o) >= 16 and winograd.saves(h, w) and enough


def _hybrid_weight_gradient(x, g, padding):
    """XLA's, but where it is slow on a GPU: of several groups, and of few input channels.

    Gradients of ten classes of 256 images at once took 29 ms on an H100 by grouped convolutions,
    and 12 ms by products; those of one class 1.4 ms while cuDNN took Fourier transforms for the
    first layer, and 1.1 ms by its product.
    """
    kernel = [s + 2 * p - o + 1 for s, p, o in zip(x.shape[2:4], padding, g.shape[2:4])]
    products = len(x) > 1 or _is_narrow((*kernel, x.shape[-1], g.shape[-1]))
    of_group = _matmul_weight_gradient if products else _lax_weight_gradient
    return _all_at_once(of_group)(x, g, padding)


def _is_narrow(kernel: tuple[int, int, int, int]) -> bool:
    """So few input channels that all shifts of an image, side by side (im2col), are one matrix."""
    kh, kw, i, _ = kernel
    return kh * kw * i <= 128


FORMS: dict[str, Form] = {
    "xla": Form(
        _all_at_once(_lax_conv),
        _all_at_once(_by_convolution(_lax_conv)),
        _all_at_once(_lax_weight_gradient),
    ),
    "hybrid": Form(
        _all_at_once(_lax_conv),
        _all_at_once(_by_convolution(_lax_conv)),
        _hybrid_weight_gradient,
    ),
    "products": Form(
        _one_by_one(_canonical_conv),
        _one_by_one(_canonical_input_gradient),
        _all_at_once(_products_weight_gradient),
    ),
    "winograd": Form(
        _one_by_one(_winograd_conv),
        _one_by_one(_winograd_input_gradient),
        _one_by_one(_winograd_weight_gradient),
    ),
}
"""By name: XLA's own convolutions for all; those, with matrix products for the weight gradients
that are slow on a GPU; a canonical convolution and matrix products, of small images by `places`, at
full speed in loops on the CPU; and those with Winograd's tiles where they save half the work."""


# --- the primitives -------------------------------------------------------------------------------


def _output_size(size: int, kernel: int, padding: int) -> int:
    output = size + 2 * padding - kernel + 1
    if output < 1:
        raise ValueError(f"a kernel of {kernel} does not fit in {size} pixels padded by {padding}")
    return output


def _convolve_shape(x, kernel, *, padding, form):
    h, w = map(_output_size, x.shape[2:4], kernel.shape[1:3], padding)
    return x.update(shape=(*x.shape[:2], h, w, kernel.shape[-1]))


def _input_gradient_shape(g, kernel, *, padding, form):
    h, w = (s + k - 1 - 2 * p for s, k, p in zip(g.shape[2:4], kernel.shape[1:3], padding))
    return g.update(shape=(*g.shape[:2], h, w, kernel.shape[-2]))


def _weight_gradient_shape(x, g, *, padding, form):
    kh, kw = (s + 2 * p - o + 1 for s, p, o in zip(x.shape[2:4], padding, g.shape[2:4]))
    return x.update(shape=(x.shape[0], kh, kw, x.shape[-1], g.shape[-1]))


def _define(name: str, shape: Callable, compute: Callable) -> Primitive:
    primitive = Primitive(name)
    primitive.def_abstract_eval(shape)
    primitive.def_impl(jax.jit(primitive.bind, static_argnames=("padding", "form")))
    mlir.register_lowering(primitive, mlir.lower_fun(compute, multiple_results=False))
    return primitive


_convolve_p = _define(
    "gm_convolve",
    _convolve_shape,
    lambda x, kernel, *, padding, form: form.convolve(x, kernel, padding),
)
_input_gradient_p = _define(
    "gm_input_gradient",
    _input_gradient_shape,
    lambda g, kernel, *, padding, form: form.input_gradient(g, kernel, padding),
)
_weight_gradient_p = _define(
    "gm_weight_gradient",
    _weight_gradient_shape,
    lambda x, g, *, padding, form: form.weight_gradient(x, g, padding),
)


# --- derivatives: each bilinear map's two transposes ----------------------------------------------


def _convolve_transpose_x(g, x, kernel, *, padding, form):
    return _input_gradient_p.bind(g, kernel, padding=padding, form=form)


def _convolve_transpose_kernel(g, x, kernel, *, padding, form):
    return _weight_gradient_p.bind(x, g, padding=padding, form=form)


def _input_gradient_transpose_g(x, g, kernel, *, padding, form):
    return _convolve_p.bind(x, kernel, padding=padding, form=form)


def _input_gradient_transpose_kernel(x, g, kernel, *, padding, form):
    return _weight_gradient_p.bind(x, g, padding=padding, form=form)


def _weight_gradient_transpose_x(kernel, x, g, *, padding, form):
    return _input_gradient_p.bind(g, kernel, padding=padding, form=form)


def _weight_gradient_transpose_g(kernel, x, g, *, padding, form):
    return _convolve_p.bind(x, kernel, padding=padding, form=form)


ad.defbilinear(_convolve_p, _convolve_transpose_x, _convolve_transpose_kernel)
ad.defbilinear(_input_gradient_p, _input_gradient_transpose_g, _input_gradient_transpose_kernel)
ad.defbilinear(_weight_gradient_p, _weight_gradient_transpose_x, _weight_gradient_transpose_g)


# --- vmap -----------------------------------------------------------------------------------------


def _fold(a, axis: int | None, into: int, size: int):
    """Merges the mapped axis of `a` (repeated if there is none) into axis `into` of the rest."""
    if axis is None:
        a = jnp.broadcast_to(jnp.expand_dims(a, into), (*a.shape[:into], size, *a.shape[into:]))
    else:
        a = jnp.moveaxis(a, axis, into)
    return a.reshape(*a.shape[:into], -1, *a.shape[into + 2 :])


def _batch_groups(primitive: Primitive, args, axes, *, padding, form):
    size = next(a.shape[d] for a, d in zip(args, axes) if d is not None)
    folded = [_fold(a, d, 0, size) for a, d in zip(args, axes)]
    result = primitive.bind(*folded, padding=padding, form=form)
    return result.reshape(size, -1, *result.shape[1:]), 0


def _batch_with_kernel(primitive: Primitive, args, axes, *, padding, form):
    """Images alone are merged with the batch, so that one kernel serves them all."""
    (x, kernel), (x_axis, kernel_axis) = args, axes
    if kernel_axis is not None:
        return _batch_groups(primitive, args, axes, padding=padding, form=form)
    size = x.shape[x_axis]
    result = primitive.bind(_fold(x, x_axis, 1, size), kernel, padding=padding, form=form)
    return result.reshape(result.shape[0], size, -1, *result.shape[2:]), 1


for _primitive, _batch in (
    (_convolve_p, _batch_with_kernel),
    (_input_gradient_p, _batch_with_kernel),
    (_weight_gradient_p, _batch_groups),
):
    batching.primitive_batchers[_primitive] = functools.partial(_batch, _primitive)
