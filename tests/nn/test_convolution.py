"""The convolution against `lax.conv_general_dilated`, to third order and under vmap."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from gm_jax.nn import winograd
from gm_jax.nn.convolution import FORMS, _suits_winograd, conv2d

pytestmark = pytest.mark.usefixtures("x64")


def reference(x, kernel, padding):
    pads = [(p, p) for p in padding]
    return lax.conv_general_dilated(
        x, kernel, (1, 1), pads, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def gradients(conv, padding):
    """A nonlinear loss's gradients, so that second derivatives have every term."""
    return jax.grad(lambda x, k: jnp.sum(jnp.sin(conv(x, k, padding))), argnums=(0, 1))


def derivatives(conv, padding):
    """Functions `(x, kernel) -> pytree` that reach each derivative by another road."""
    grads = gradients(conv, padding)

    def scalar(x, k):
        return sum(jnp.sum(jnp.cos(g)) for g in grads(x, k))

    both = (0, 1)
    return {
        "value": lambda x, k: conv(x, k, padding),
        "reverse": grads,
        "reverse over reverse": jax.grad(scalar, both),
        "forward over reverse": lambda x, k: jax.jvp(grads, (x, k), (x + 1, k - 2))[1],
        "reverse over forward": jax.grad(
            lambda x, k: jnp.sum(
                jax.jvp(lambda x, k: conv(x, k, padding), (x, k), (x * x, k + 1))[1] ** 2
            ),
            both,
        ),
        "third order": lambda x, k: jax.jvp(jax.grad(scalar, both), (x, k), (x + 1, k))[1],
    }


def in_form(name):
    return lambda x, kernel, padding: conv2d(x, kernel, padding, FORMS[name])


def assert_same(ours, theirs):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert a.shape == b.shape
        assert jnp.max(jnp.abs(a - b)) <= 1e-11 * (1 + jnp.max(jnp.abs(b)))


SHAPES = {  # height, width, in, out, kernel height and width, padding
    "3x3 same": (6, 6, 3, 4, 3, 3, (1, 1)),
    "one channel, padded by 3": (6, 6, 1, 4, 3, 3, (3, 3)),  # padding beyond the kernel's reach
    "wide enough for products by row": (8, 9, 40, 15, 3, 5, (0, 2)),
    "few output channels": (5, 6, 16, 2, 3, 3, (2, 1)),
    "1x1": (6, 6, 2, 3, 1, 1, (0, 0)),
    "1x1, padded unevenly": (4, 4, 2, 3, 1, 1, (1, 2)),
    "2x3 pixels": (2, 3, 16, 17, 3, 3, (1, 1)),
    "a pixel that most places do not meet": (1, 2, 16, 17, 5, 4, (2, 2)),
    "whole tiles of 4": (12, 4, 16, 16, 3, 3, (1, 1)),
    "tiles cut off": (7, 6, 16, 17, 3, 3, (1, 1)),
    "tiles, padded by 2 and 0": (6, 6, 17, 16, 3, 3, (2, 0)),
}
TILED = ["whole tiles of 4", "tiles cut off", "tiles, padded by 2 and 0"]


def inputs(shape):
    h, w, i, o, kh, kw, padding = shape
    x = jax.random.normal(jax.random.key(1), (2, h, w, i))
    kernel = jax.random.normal(jax.random.key(2), (kh, kw, i, o))
    return x, kernel, padding


CASES = [
    (form, shape) for shape in SHAPES for form in FORMS if (form == "winograd") == (shape in TILED)
]


@pytest.mark.parametrize(
    ("form", "shape"),
    [c if c[0] == "winograd" else pytest.param(*c, marks=pytest.mark.slow) for c in CASES],
)
def test_every_derivative_is_laxs(form, shape):
    x, kernel, padding = inputs(SHAPES[shape])

    @jax.jit
    def all_of_them(x, kernel):
        roads = derivatives(in_form(form), padding), derivatives(reference, padding)
        return [{name: f(x, kernel) for name, f in road.items()} for road in roads]

    assert_same(*all_of_them(x, kernel))


@pytest.mark.parametrize("form", FORMS)
def test_vmap_over_images_kernels_or_both(form):
    """Values and derivatives to second order, mapped over x, over the kernel, over both."""
    x, kernel, padding = inputs(SHAPES["whole tiles of 4"])
    names = ("value", "reverse", "reverse over reverse")
    stack = lambda a, axis: a if axis is None else jnp.stack([a, a + 1, a * 2])

    @jax.jit
    def mapped(x, kernel):
        found = []
        for conv in (in_form(form), reference):
            of = derivatives(conv, padding)
            for axes in ((0, 0), (0, None), (None, 0)):
                batch = stack(x, axes[0]), stack(kernel, axes[1])
                found += [jax.vmap(of[name], axes)(*batch) for name in names]
        return found[:9], found[9:]

    assert_same(*mapped(x, kernel))


@pytest.mark.slow
def test_gradient_of_nested_vmaps():
    """Classes inside, seeds outside: both axes end up in the group axis."""
    x, kernel, padding = inputs(SHAPES["3x3 same"])
    xs, kernels = jnp.stack([x, x + 1, x * 2]), jnp.stack([kernel, -kernel])

    def total(conv):
        inner = jax.vmap(gradients(conv, padding), (0, None))
        outer = jax.vmap(inner, (None, 0))
        return lambda x, k: sum(jnp.sum(g**2) for g in jax.tree.leaves(outer(x, k)))

    assert_same(
        jax.grad(total(conv2d), (0, 1))(xs, kernels),
        jax.grad(total(reference), (0, 1))(xs, kernels),
    )


@pytest.mark.parametrize("shape", TILED)
def test_these_shapes_are_tiled(shape):
    """Else the cases above would test the direct sum twice; they have two images or more."""
    h, w, i, o, kh, kw, (ph, pw) = SHAPES[shape]
    assert _suits_winograd(2, (kh, kw, i, o), h + 2 * ph - 2, w + 2 * pw - 2)


def test_when_tiles_save_half():
    """8x8 is 4 tiles: 4 * 36 = 144 products instead of 9 * 64 = 576.

    5x5 is 4 tiles as well, for 225: less than half is saved; 3x3 is one, 36 instead of 81.
    """
    assert winograd.saves(8, 8)
    assert not winograd.saves(5, 5)
    assert winograd.saves(3, 3)
    assert not winograd.saves(2, 2)


def test_tiles_are_for_more_images_where_there_are_more_channels():
    """ConvNet's second layer, 16 images at a time; VGG11's sixth, of one tile an image."""
    assert _suits_winograd(16, (3, 3, 128, 128), 16, 16)
    assert not _suits_winograd(31, (3, 3, 512, 512), 4, 4)  # 31 * 8192 < 512 * 512
    assert _suits_winograd(32, (3, 3, 512, 512), 4, 4)
    assert not _suits_winograd(16, (5, 5, 128, 128), 16, 16)


def test_tiles_round_little_in_float32():
    """Value and gradients are within 3e-6 of the result, where the direct sums are within 2e-6."""
    shape = (16, 16, 64, 64, 3, 3, (1, 1))
    x, kernel, padding = inputs(shape)
    g = jax.random.normal(jax.random.key(3), (2, 16, 16, 64))

    def all_three(conv, x, kernel, g):
        y, pullback = jax.vjp(lambda x, kernel: conv(x, kernel, padding), x, kernel)
        return y, *pullback(g)

    exact = all_three(reference, x, kernel, g)
    singles = [a.astype(jnp.float32) for a in (x, kernel, g)]
    for form, bound in [("xla", 2e-6), ("winograd", 3e-6)]:
        for ours, theirs in zip(all_three(in_form(form), *singles), exact):
            assert ours.dtype == jnp.float32
            assert jnp.linalg.norm(ours - theirs) < bound * jnp.linalg.norm(theirs)


@pytest.mark.parametrize("stride", [2, 3])
@pytest.mark.parametrize("size", [(8, 8), (7, 5), (9, 6)])
@pytest.mark.parametrize(("kernel", "padding"), [(3, 1), (1, 0), (2, 0), (4, 1), (5, 2)])
def test_strides_are_laxs(size, kernel, padding, stride):
    """Every second or third pixel, also of sides that the stride does not divide.

    The value, the value mapped over kernels, and the gradients.
    """
    x, kernel, _ = inputs((*size, 3, 4, kernel, kernel, None))

    def lax_strided(x, kernel):
        pads = [(padding, padding)] * 2
        layout = ("NHWC", "HWIO", "NHWC")
        strides = (stride, stride)
        return lax.conv_general_dilated(x, kernel, strides, pads, dimension_numbers=layout)

    def ours(x, kernel):
        return conv2d(x, kernel, (padding, padding), stride=stride)

    assert_same(ours(x, kernel), lax_strided(x, kernel))
    kernels = jnp.stack([kernel, 1 - kernel])
    each = jnp.stack([lax_strided(x, one) for one in kernels])
    assert_same(jax.vmap(ours, (None, 0))(x, kernels), each)
    gradient = lambda f: jax.grad(lambda *a: jnp.sum(jnp.sin(f(*a))), (0, 1))
    assert_same(gradient(ours)(x, kernel), gradient(lax_strided)(x, kernel))


def test_wrong_channels_and_too_large_kernels_are_refused():
    x = jnp.zeros((1, 4, 4, 3))
    with pytest.raises(ValueError, match="3 channels, kernel takes 2"):
        conv2d(x, jnp.zeros((3, 3, 2, 5)))
    with pytest.raises(ValueError, match="kernel of 7 does not fit"):
        conv2d(x, jnp.zeros((7, 7, 3, 5)), (1, 1))
    with pytest.raises(ValueError, match="kernel of 7 does not fit in 4 pixels padded by 1"):
        conv2d(x, jnp.zeros((7, 7, 3, 5)), (1, 1), stride=2)
