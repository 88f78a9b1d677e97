"""What is wrong with a variant, said in one line before anything runs.

An iteration is traced, which computes nothing; before that, each part of the method is asked for
what it must be, so that the line names the part.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from gm_jax.build import STARTS, build_method, swept_numbers
from gm_jax.config import Config
from gm_jax.core import iteration
from gm_jax.core.method import Method, Variant, of_real, unchanged
from gm_jax.core.objectives import MatchInfo
from gm_jax.core.parametrisation import Parametrisation
from gm_jax.core.schemes import Scheme
from gm_jax.core.signals import Signal, loss_gradient
from gm_jax.core.step_rules import StepRule
from gm_jax.core.training import NetworkState
from gm_jax.data.images import Batch, Dataset
from gm_jax.errors import UserError, of_variant
from gm_jax.nn.networks import Network

KINDS = {
    "network": Network,
    "step_rule": StepRule,
    "signal": Signal,
    "parametrisation": Parametrisation,
}
"""What these parts of a method are."""


def check_variant(config: Config, dataset: Dataset, variant: Variant) -> None:
    """Raises `UserError` for what is wrong with a variant.

    What its functions raise is told in one line, and is the cause of the `UserError`.
    """
    if variant is not unchanged:
        with of_variant():
            method = variant(build_method(config, dataset))
            _check_kinds(method)
            _check_sizes(method, config)
            _check_images(method, config, dataset)
            signal = _check_signals(method, dataset)
            _check_distance(method, signal)
            _check_objectives(method, signal, len(dataset.class_names))
            _trace(config, dataset, variant)


def _check_kinds(method: Any) -> None:
    """That every part is of its kind."""
    if not isinstance(method, Method):
        raise UserError(f"the variant must return a Method, not {_kind(method)}")
    parts = [(name, getattr(method, name), kind) for name, kind in KINDS.items()]
    parts += [("real_signal", of_real(method).signal, Signal)]
    for name, part, kind in parts:
        if not isinstance(part, kind):
            raise UserError(f"the variant's {name} must be a {kind.__name__}, not {_kind(part)}")
    schemes = method.schemes
    if not schemes or not all(isinstance(scheme, Scheme) for scheme in schemes):
        raise UserError("the variant's schemes must be a tuple of at least one Scheme")
    for name in ("image_optimiser", "network_optimiser"):
        optimiser = getattr(method, name)
        if not callable(optimiser) or not hasattr(optimiser(0.1), "update"):
            raise UserError(
                f"the variant's {name} must be a function of a learning rate that returns an optax "
                "transformation, such as optax.adam"
            )


def _kind(value: Any) -> str:
    return type(value).__name__


def _check_sizes(method: Method, config: Config) -> None:
    for name in ("outer_steps", "batch_train", "batch_validation"):
        size = getattr(method, name)
        if not isinstance(size, int) or size < 1:
            raise UserError(f"the variant's {name} is {size}: must be a whole number, 1 or more")
    for name, of in (("signal", method), ("real_signal", of_real(method))):
        if config.microbatch and not of.signal.mean_over_images:
            raise UserError(
                f"--microbatch {config.microbatch}: the variant's {name} is no mean over images, "
                "and is computed on all images of a group at once: leave it out"
            )


def _check_images(method: Method, config: Config, dataset: Dataset) -> None:
    """That what is learned keeps its shape, and is decoded to images."""
    classes = len(dataset.class_names)
    images = jax.ShapeDtypeStruct((classes, config.ipc, *dataset.image_shape), jnp.float32)
    start, decode, project = (
        functools.partial(jax.eval_shape, getattr(method.parametrisation, name))
        for name in ("start", "decode", "project")
    )
    learned = start(images)
    if getattr(learned, "shape", ())[:2] != (classes, config.ipc):
        raise UserError(
            f"the variant's start must return an array [{classes}, {config.ipc}, ...], a row for "
            f"each image of each class, not {_shown(learned)}"
        )
    if project(learned) != learned:
        said = f"{_shown(project(learned))} of {_shown(learned)}"
        raise UserError(f"the variant's project must keep shape and type, and makes {said}")
    decoded = decode(learned)
    shape = getattr(decoded, "shape", ())
    if shape[:1] + shape[2:] != (classes, *dataset.image_shape):
        wanted = ", ".join(map(str, dataset.image_shape))
        raise UserError(
            f"the variant's decode must return images [{classes}, n, {wanted}], "
            f"not {_shown(decoded)}"
        )


def _check_signals(method: Method, dataset: Dataset) -> Any:
    """That those of synthetic and of real images are of one shape; returns it."""
    found = _check_signal("signal", method, dataset)
    if method.real_signal is not None:
        real = _check_signal("real_signal", of_real(method), dataset)
        if real != found:
            raise UserError(
                f"the variant's real_signal is {_shown(real)}, but its signal {_shown(found)}"
            )
    return found


def _check_signal(name: str, method: Method, dataset: Dataset) -> Any:
    """That it does not depend on how many images there are; returns what that of a group is."""
    of = functools.partial(iteration.signal_of, method, dataset.image_shape)
    one, two = (
        jax.eval_shape(functools.partial(of, number=number), jax.random.key(0)) for number in (1, 2)
    )
    if one != two:
        raise UserError(
            f"the variant's {name} is {_shown(one)} of one image and {_shown(two)} of two: it must "
            "not depend on their number"
        )
    if method.signal is not loss_gradient and method.signal.mean_over_images:
        _check_mean(name, method, dataset)
    return one


def _check_distance(method: Method, signal: Any) -> None:
    """That it is a number, and counts some tensor of the signal."""
    if not jax.make_jaxpr(method.distance)(signal, signal).eqns:
        raise UserError(
            "the variant's distance is the same whatever the signal: distances of rows leave out "
            "tensors of one dimension, which mse_global and cosine_global count"
        )
    distance = jax.eval_shape(method.distance, signal, signal)
    if getattr(distance, "shape", None) != ():
        raise UserError(f"the variant's distance must be a number, not {_shown(distance)}")


def _check_objectives(method: Method, signal: Any, classes: int) -> None:
    """That each returns numbers, of signals of all classes."""
    zero = jnp.zeros((), jnp.int32)
    of_class = lambda leaf: jax.ShapeDtypeStruct((classes, *leaf.shape), leaf.dtype)
    signals, place = jax.tree.map(of_class, signal), iteration.place(method, zero, zero)
    for scheme in method.schemes:
        match = iteration.match_of(method, scheme, place, classes)
        found = jax.eval_shape(match, signals, signals)
        if not isinstance(found, MatchInfo) or any(leaf.shape for leaf in jax.tree.leaves(found)):
            raise UserError(
                f"the variant's objective must return a MatchInfo of numbers, not {_shown(found)}"
            )


def _check_mean(name: str, method: Method, dataset: Dataset) -> None:
    """That a signal s is the mean over images that it says it is, without those labelled -1.

    Of two images of noise a and b: s(a, b) = (s(a, a) + s(b, b)) / 2, and s(a, b as padding) =
    s(a, a), so that one program does.
    """
    key, last = jax.random.key(0), len(dataset.class_names) - 1
    whole = method._replace(microbatch=None)
    images = jax.random.normal(key, (2, *dataset.image_shape))

    @jax.jit
    def signal(places, y):
        network = NetworkState(*method.network.init(key), None)
        return iteration.group_signals(whole, network, Batch(images[places][None], y[None]))

    def of(places, y):
        return signal(*(jnp.array(numbers, jnp.int32) for numbers in (places, y)))

    with jax.default_matmul_precision("highest"):
        both, padded = of((0, 1), (0, last)), of((0, 1), (0, -1))
        first, second = of((0, 0), (0, 0)), of((1, 1), (last, last))
    mean = jax.tree.map(lambda one, other: (one + other) / 2, first, second)
    if not _same(both, mean) or not _same(padded, first):
        raise UserError(
            f"the variant's {name} is no mean over images, or counts those labelled -1: leave "
            "these out, or give it mean_over_images=False"
        )


def _same(found: Any, expected: Any) -> bool:
    """Whether two signals are, but for rounding, which some of their tensors consist of."""
    ours, others = jax.tree.leaves(found), jax.tree.leaves(expected)
    sizes = [float(jnp.abs(leaf).max(initial=0)) for leaf in others]
    return all(
        np.allclose(a, b, rtol=0, atol=1e-2 * size + 1e-4 * max(sizes), equal_nan=True)
        for a, b, size in zip(ours, others, sizes, strict=True)
    )


def _shown(tree: Any) -> str:
    """Shapes of arrays, and other things by their kind."""
    if isinstance(tree, jax.ShapeDtypeStruct | Array):
        return f"{tree.dtype}{list(tree.shape)}"
    shapes = [f"{leaf.dtype}{list(leaf.shape)}" for leaf in jax.tree.leaves(tree)]
    return f"{_kind(tree)} of {', '.join(shapes[:3])}{', ...' * (len(shapes) > 3)}"


def _trace(config: Config, dataset: Dataset, variant: Variant) -> None:
    """Whatever else an iteration of one set raises."""

    def iterate(key, swept, data):
        method = variant(build_method(config, dataset, swept))
        images = STARTS[config.start](config.factor)(key, data, config.ipc)
        return iteration.iteration(method, key, data, iteration.init(method, images))

    swept = jax.tree.map(lambda numbers: numbers[0], swept_numbers(config))
    jax.eval_shape(iterate, jax.random.key(0), swept, dataset.train)
