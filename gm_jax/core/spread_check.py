"""Whether a method is the same one where its classes are spread over devices.

The devices are simulated by `vmap`, each with two classes of noise, and compared with a single one
that has all classes: nothing is exchanged between real devices or processes.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gm_jax.core import iteration
from gm_jax.core.inner_data import synthetic
from gm_jax.core.method import Method
from gm_jax.core.schemes import Scheme
from gm_jax.data.images import ClassImages
from gm_jax.data.spread import HERE, Spread
from gm_jax.errors import UserError
from gm_jax.parallel.meshes import CLASSES

Tree = Any

IMAGES = 4
"""Real images of each class."""

PLACES = ((0, 0), (0, 1), (10**6, 0))
"""Iterations and outer steps that objectives, which may change, are compared at; and the last."""

over_devices = functools.partial(jax.vmap, axis_name=CLASSES)
there = Spread(CLASSES)


def check(
    method: Method,
    share: int,
    shape: tuple[int, int, int],
    statistics: tuple[Float[Array, " channel"], Float[Array, " channel"]],
) -> None:
    """Raises `UserError` for the first part of a method that differs.

    Args:
        method: what is spread.
        share: devices that share the classes.
        shape: of an image.
        statistics: mean and standard deviation a channel.
    """
    key = jax.random.key(1)
    pixels = jax.random.bits(key, (2 * share, IMAGES, *shape), jnp.uint8)
    whole = ClassImages(pixels, jnp.full(2 * share, IMAGES, jnp.int32), *statistics)
    noise = jax.random.normal(key, (2 * share, 1, *shape))
    images = method.parametrisation.decode(method.parametrisation.start(noise))
    if not _same_inner_data(method, share, whole, images):
        raise _refused(share, "inner_data must be the same on all devices: see draw_mixed")
    if method.inner_data is not synthetic and _looks_at_validation(method):
        raise _refused(
            share,
            "step_rule must not look at the validation loss where inner_data are not the synthetic "
            "images: devices that end at other epochs would wait for one another",
        )
    for scheme in method.schemes:
        if not _same_groups(scheme, share, whole, images):
            raise _refused(share, "scheme must have a group for each class: see draw_classes")
        if not _same_objective(method, scheme, share, shape):
            raise _refused(
                share,
                "objective must take sums and means over classes by class_sum and class_mean with "
                "place.spread, and no mean of classes into the term of a single one",
            )


def _refused(share: int, what: str) -> UserError:
    return UserError(f"--class-devices {share}: the variant's {what}")


def _same_inner_data(method: Method, share: int, whole: ClassImages, images: Array) -> bool:
    key = jax.random.key(2)
    of = lambda data: method.inner_data(key, data, images)
    found = over_devices(lambda *parts: of(_of_device(whole, *parts)))(*_parts(whole, share))
    return _same(found, jax.tree.map(lambda a: jnp.stack([a] * share), of(whole)))


def _looks_at_validation(method: Method) -> bool:
    looked = []

    def validation_loss():
        looked.append(True)
        return jnp.zeros(())

    rule, step = method.step_rule, jnp.zeros((), jnp.int32)
    jax.eval_shape(lambda: rule.update(rule.init(step, validation_loss), validation_loss))
    return bool(looked)


def _same_groups(scheme: Scheme, share: int, whole: ClassImages, images: Array) -> bool:
    key = jax.random.key(3)
    groups = scheme.real(key, whole)
    if {len(groups.y), len(scheme.synthetic(key, images).y)} != {2 * share}:
        return False
    of_device = lambda *parts: scheme.real(key, _of_device(whole, *parts))
    found = over_devices(of_device)(*_parts(whole, share))
    return _same(jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), found), groups)


def _same_objective(
    method: Method, scheme: Scheme, share: int, shape: tuple[int, int, int]
) -> bool:
    """Loss and gradient by the signals."""
    of_class = jax.eval_shape(
        functools.partial(iteration.signal_of, method, shape), jax.random.key(0)
    )
    noise = lambda key: jax.tree.map(
        lambda leaf: jax.random.normal(key, (2 * share, *leaf.shape), leaf.dtype), of_class
    )
    signals = noise(jax.random.key(4)), noise(jax.random.key(5))
    split = lambda tree: jax.tree.map(lambda a: a.reshape(share, 2, *a.shape[1:]), tree)
    for at in (*PLACES, (0, method.outer_steps - 1)):

        def loss(synthetic, real, where, at=at):
            number, step = (jnp.asarray(n, jnp.int32) for n in at)
            place = iteration.place(method, number, step, where)
            return scheme.objective(place, method.distance, 1.0, synthetic, real).loss

        both = jax.value_and_grad(loss)
        expected, gradient = jax.jit(functools.partial(both, where=HERE))(*signals)
        of_devices = over_devices(functools.partial(both, where=there))
        found = jax.jit(of_devices)(*map(split, signals))
        if not _same(found, (jnp.full(share, expected), split(gradient))):
            return False
    return True


def _parts(whole: ClassImages, share: int) -> tuple[Array, Array]:
    """Images and counts, `[share, 2, ...]`."""
    split = lambda rows: jnp.asarray(rows).reshape(share, 2, *rows.shape[1:])
    return split(whole.images), split(whole.counts)


def _of_device(whole: ClassImages, images: Array, counts: Array) -> ClassImages:
    return whole._replace(images=images, counts=counts, spread=there)


def _same(found: Tree, expected: Tree) -> bool:
    """Whether two pytrees are, but for rounding."""

    def near(a, b):
        largest = np.abs(b).max(initial=0, where=np.isfinite(b))
        return np.allclose(a, b, rtol=1e-3, atol=1e-3 * largest, equal_nan=True)

    ours, others = jax.tree.leaves(found), jax.tree.leaves(expected)
    pairs = zip(ours, others)
    return len(ours) == len(others) and all(a.shape == b.shape and near(a, b) for a, b in pairs)
