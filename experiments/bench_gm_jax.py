"""The worker of `experiments.bench` that runs this library; it imports no PyTorch.

`work` is where the benchmark calls into `gm_jax`.
"""

import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np

from experiments.bench_cases import (
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
from experiments.bench_worker import peak_resident_bytes, seconds, serve
from gm_jax.config import Config, build_method
from gm_jax.core import iteration, training
from gm_jax.core.schemes import class_labels
from gm_jax.data.images import Dataset, by_class
from gm_jax.evaluation import protocol
from gm_jax.nn import platforms

MATRIX, MATRIX_TRIES = 3000, 3
"""Rows of the float32 matrices whose product shows the machine's rate, and how many are tried."""


def work(case: Case) -> tuple[Callable, tuple]:
    """What a case is in `gm_jax`: a pure function, and its arguments."""
    drawn = case.batch_real if case.part == ITERATION else 1
    data = noise_set(SHAPES[case.shape], CLASSES, drawn)
    shape = data.image_shape
    method = build_method(settings(case), data)
    key = jax.random.key(0)
    # Noise in place of a fresh network: compiling its initialisation would take a second a case.
    shapes, stats = jax.eval_shape(method.network.init, key)
    params = jax.tree.map(lambda p: 0.05 * noise(*p.shape), shapes)
    frozen = training.NetworkState(params, stats, None)
    images = noise(CLASSES, case.ipc, *shape)
    x, y = images.reshape(-1, *shape), class_labels(images).reshape(-1)
    if case.part == REAL:
        real = noise(CLASSES, case.batch_real, *shape)
        groups = (real, class_labels(real))
        return functools.partial(iteration.group_signals, method), (frozen, groups)
    if case.part == MATCH:
        real_signals = jax.tree.map(lambda p: noise(CLASSES, *p.shape), params)
        match = functools.partial(iteration.match_signals, method, method.schemes[0].match)
        return match, (frozen, real_signals, (images, class_labels(images)))
    if case.part == EPOCH:
        network_by = method.network_optimiser
        state = training.NetworkState(params, stats, network_by.init(params))
        epoch = training.epoch(method.network, network_by, method.batch_train, method.microbatch)
        return epoch, (key, state, x, y)
    if case.part == ITERATION:
        state = iteration.init(method, images)
        return functools.partial(iteration.iteration, method), (key, data.train, state)
    assert case.part == EVALUATION, case.part
    how = protocol.Protocol(case.epochs, microbatch=platforms.defaults().microbatch)

    def train_and_test(key, *sets):
        return protocol.train_and_test(key, method.network, how, *sets)

    test_labels = jnp.arange(TEST_IMAGES, dtype=jnp.int32) % CLASSES
    return train_and_test, (key, x, y, noise(TEST_IMAGES, *shape), test_labels)


def settings(case: Case) -> Config:
    """The run that a case is a part of; where the part has no outer steps, the default's do."""
    return Config(
        step_rule="fixed",
        batch_real=max(case.batch_real, 1),
        outer_steps=case.outer_steps or None,
        inner_epochs=case.inner_epochs,
    )


def noise(*shape: int) -> jax.Array:
    """N(0, 1), float32."""
    return jnp.asarray(np.random.default_rng(0).standard_normal(shape, np.float32))


def noise_set(shape: Shape, classes: int, count: int) -> Dataset:
    """Random pixels, `count` images a class."""
    labels = np.repeat(np.arange(classes), count)
    pixels = np.random.default_rng(0).integers(0, 256, (len(labels), *shape), np.uint8)
    names = tuple(str(c) for c in range(classes))
    train = by_class(pixels, labels, classes)
    return Dataset("noise", names, train, pixels[:1], labels[:1].astype(np.int32))


def prepare(case: Case) -> tuple[Callable[[], object], dict[str, float]]:
    """The compiled case, ready to be called, and the seconds that tracing and compiling took."""
    function, arguments = work(case)
    start = time.perf_counter()
    compiled = jax.jit(function).lower(*arguments).compile()
    took = time.perf_counter() - start
    return lambda: jax.block_until_ready(compiled(*arguments)), {"compile_s": took}


def matrix_rate() -> float:
    """FLOP/s of a large float32 matrix product at JAX's default precision, the best of a few."""
    a = jnp.full((MATRIX, MATRIX), 0.5)
    product = jax.jit(jnp.matmul)
    product(a, a).block_until_ready()
    best = min(seconds(lambda: product(a, a).block_until_ready()) for _ in range(MATRIX_TRIES))
    return 2 * MATRIX**3 / best


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
    jax.config.update("jax_enable_compilation_cache", False)  # else nothing is compiled
    serve(prepare, peak_bytes, {"matrix rate": matrix_rate, "about": about})
