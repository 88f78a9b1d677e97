"""The worker of `bench` that runs this library; it imports no PyTorch.

`work` shows which calls of `gm_jax` are measured.
"""

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np

from experiments.benchmarks.cases import (
    CLASSES,
    EPOCH,
    EVALUATION,
    ITERATION,
    MATCH,
    REAL,
    SHAPES,
    TEST_IMAGES,
    Case,
    Shape,
)
from experiments.benchmarks.worker import Call, peak_resident_bytes, seconds, serve
from gm_jax.build import build_method
from gm_jax.config import Config
from gm_jax.core import iteration, training
from gm_jax.core.method import Method
from gm_jax.core.schemes import all_images, class_labels
from gm_jax.data.images import Batch, Dataset, by_class
from gm_jax.evaluation import protocol
from gm_jax.nn import platforms

MATRIX, ACCELERATOR_MATRIX, MATRIX_TRIES = 3000, 8192, 3
"""Rows of the float32 matrices whose product shows the device's rate, and how many are tried."""

Work = tuple[Callable, tuple]
"""A pure function, and its arguments."""


class Setup(NamedTuple):
    """What the parts are computed from.

    Attributes:
        case: what is measured.
        data: real images.
        method: the equations.
        network: with parameters of noise: compiling its initialisation would take a second.
        images: synthetic images `[C, ipc, h, w, channel]`, noise.
    """

    case: Case
    data: Dataset
    method: Method
    network: training.NetworkState
    images: jax.Array


# --- the cases ------------------------------------------------------------------------------------


def work(case: Case) -> Work:
    """The computation of a case in `gm_jax`."""
    setup, key = _setup(case), jax.random.key(0)
    if case.part == REAL:
        return _real_gradients(setup)
    if case.part == MATCH:
        return _match(setup)
    if case.part == EPOCH:
        return _inner_epoch(setup, key)
    if case.part == ITERATION:
        state = iteration.init(setup.method, setup.images)
        return functools.partial(iteration.iteration, setup.method), (key, setup.data.train, state)
    assert case.part == EVALUATION, case.part
    return _evaluation(setup, key)


def _setup(case: Case) -> Setup:
    data = noise_set(SHAPES[case.shape], CLASSES, case.batch_real if case.part == ITERATION else 1)
    method = build_method(settings(case), data)
    shapes, stats = jax.eval_shape(method.network.init, jax.random.key(0))
    params = jax.tree.map(lambda p: 0.05 * noise(*p.shape), shapes)
    optimiser = method.network_optimiser(method.network_lr).init(params)
    network = training.NetworkState(params, stats, optimiser)
    return Setup(case, data, method, network, noise(CLASSES, case.ipc, *data.image_shape))


def _real_gradients(setup: Setup) -> Work:
    real = noise(CLASSES, setup.case.batch_real, *setup.data.image_shape)
    groups = Batch(real, class_labels(real))
    return functools.partial(iteration.group_signals, setup.method), (setup.network, groups)


def _match(setup: Setup) -> Work:
    method, images = setup.method, setup.images
    real_signals = jax.tree.map(lambda p: noise(CLASSES, *p.shape), setup.network.params)
    place = iteration.place(method, jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))
    match = functools.partial(method.schemes[0].objective, place, method.distance, CLASSES)
    groups = Batch(images, class_labels(images))
    function = functools.partial(iteration.match_signals, method, match)
    return function, (setup.network, real_signals, groups)


def _inner_epoch(setup: Setup, key: jax.Array) -> Work:
    method = setup.method
    optimiser = method.network_optimiser(method.network_lr)
    epoch = training.epoch(method.network, optimiser, method.batch_train, method.microbatch)
    keys = training.EpochKeys(*jax.random.split(key))
    return epoch, (keys, setup.network, all_images(setup.images))


def _evaluation(setup: Setup, key: jax.Array) -> Work:
    how = protocol.Protocol(setup.case.epochs, microbatch=setup.method.microbatch)
    test = noise(TEST_IMAGES, *setup.data.image_shape)
    test_labels = jnp.arange(TEST_IMAGES, dtype=jnp.int32) % CLASSES

    def train_and_test(key, x, y, test_x, test_y):
        trial = protocol.Trial(setup.method.network, how, test_x, test_y)
        return protocol.train_and_test(key, trial, x, y)[-1]

    return train_and_test, (key, *all_images(setup.images), test, test_labels)


def settings(case: Case) -> Config:
    """The run that a case is a part of; where the part has no outer steps, the default's do."""
    network: Any = case.network
    return Config(
        network=network,
        step_rule="fixed",
        batch_real=max(case.batch_real, 1),
        outer_steps=case.outer_steps or None,
        inner_epochs=case.inner_epochs,
    )


def noise(*shape: int) -> jax.Array:
    """N(0, 1), float32."""
    return jnp.asarray(np.random.default_rng(0).standard_normal(shape, np.float32))


def noise_set(shape: Shape, classes: int, count: int) -> Dataset:
    """Random pixels, `count` images of each class."""
    labels = np.repeat(np.arange(classes), count)
    pixels = np.random.default_rng(0).integers(0, 256, (len(labels), *shape), np.uint8)
    names = tuple(str(c) for c in range(classes))
    train = by_class(pixels, labels, classes)
    return Dataset("noise", names, train, pixels[:1], labels[:1].astype(np.int32))


# --- answers --------------------------------------------------------------------------------------


def prepare(case: Case) -> tuple[Call, dict[str, float]]:
    """The compiled case, ready to be called, and the seconds of tracing and compiling.

    On an accelerator also the memory that it needs, by the compiler's own analysis: the device's
    peak is that of all cases together.
    """
    function, arguments = work(case)
    start = time.perf_counter()
    compiled = platforms.compile_program(jax.jit(function).lower(*arguments))
    found: dict[str, float] = {"compile_s": time.perf_counter() - start}
    if jax.default_backend() != "cpu":
        needs: Any = compiled.memory_analysis()
        found["peak_bytes"] = (
            needs.argument_size_in_bytes + needs.output_size_in_bytes + needs.temp_size_in_bytes
        )
    return lambda: jax.block_until_ready(compiled(*arguments)), found


def matrix_rate() -> float:
    """FLOP/s of a large float32 matrix product at JAX's default precision, the best of a few."""
    rows = MATRIX if jax.default_backend() == "cpu" else ACCELERATOR_MATRIX
    a = jnp.full((rows, rows), 0.5)
    product = jax.jit(jnp.matmul, compiler_options=platforms.compiler_options())
    product(a, a).block_until_ready()
    best = min(seconds(lambda: product(a, a).block_until_ready()) for _ in range(MATRIX_TRIES))
    return 2 * rows**3 / best


def peak_bytes() -> int:
    """The most memory so far: the accelerator's, or this process's on a CPU."""
    device = jax.local_devices()[0]
    if device.platform == "cpu":
        return peak_resident_bytes()
    return device.memory_stats()["peak_bytes_in_use"]


def about() -> dict[str, Any]:
    """Versions and the device."""
    device = jax.local_devices()[0]
    return {
        "jax": jax.__version__,
        "jaxlib": jaxlib.__version__,
        "platform": device.platform,
        "device": device.device_kind,
    }


if __name__ == "__main__":
    jax.config.update("jax_enable_compilation_cache", False)  # compile times are measured
    serve(prepare, peak_bytes, {"matrix rate": matrix_rate, "about": about})
