"""Real images that stay with the host: the same draws, read ahead."""

import dataclasses
import threading
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax import api
from gm_jax.build import build_method, start_sets
from gm_jax.config import Config, Devices
from gm_jax.core import ahead, iteration
from gm_jax.data.host import HostImages, Picks
from gm_jax.data.images import normalise
from gm_jax.data.loading import load

SMALL = Config(
    dataset="digits",
    ipc=2,
    width=4,
    depth=1,
    norm="none",
    batch_real=8,
    outer_steps=3,
    inner_epochs=2,
    iterations=2,
    seeds=2,
)


@pytest.fixture(scope="module")
def digits():
    return load("digits")


@pytest.fixture
def reads(monkeypatch):
    """(whether it was read ahead, images) of every read."""
    found, gather = [], HostImages._gather

    def noted(self, places):
        name = threading.current_thread().name
        found.append((name.startswith("gm_jax reader"), places.number.size))
        return gather(self, places)

    monkeypatch.setattr(HostImages, "_gather", noted)
    return found


def test_places_drawn_ahead_are_those_of_the_run(digits):
    """Of every set and step, in the order of their use, for one device and for two halves."""
    sets = start_sets(SMALL, digits)
    method_of = lambda swept: build_method(SMALL, digits, swept)
    one, two = (np.array([jax.devices()[:n]]) for n in (1, 2))
    (order,) = ahead.orders(method_of, sets, digits.train, one)(1)
    scheme = build_method(SMALL, digits).schemes[0]
    second, method = jnp.array(1), build_method(SMALL, digits)
    keys = [iteration.all_step_keys(method, key, second)[1] for key in sets.keys]
    for places, key in zip(order, [key for of_set in keys for key in of_set], strict=True):
        drawn = scheme.real(iteration.step_keys(key).real, digits.train).x
        pixels = np.asarray(digits.train.images)[places.label, places.number]
        found = normalise(jnp.asarray(pixels), digits.train.mean, digits.train.std)
        np.testing.assert_array_equal(found, drawn)
    halves = ahead.orders(method_of, sets, digits.train, two)(1)
    for whole, *parts in zip(order, *halves, strict=True):
        both = jax.tree.map(lambda *of: np.concatenate(of), *parts)
        jax.tree.map(np.testing.assert_array_equal, both, whole)


def test_a_process_reads_ahead_for_its_own_devices_alone(digits):
    """Two sets, two shares of the classes, on four devices, of which the second is another's."""
    sets = start_sets(SMALL, digits)
    method_of = lambda swept: build_method(SMALL, digits, swept)
    mine, other = (types.SimpleNamespace(process_index=number) for number in (0, 1))
    orders = lambda *rows: ahead.orders(method_of, sets, digits.train, np.array(rows))(0)
    first, _, third, fourth = orders([mine, mine], [mine, mine])
    found = orders([mine, other], [mine, mine])
    jax.tree.map(np.testing.assert_array_equal, found, [first, third, fourth])


@pytest.mark.slow
@pytest.mark.usefixtures("default_emitters")
@pytest.mark.parametrize(
    ("changes", "devices"),
    [
        ({}, Devices(1)),
        ({"seeds": 3}, Devices(2)),
        ({}, Devices(2, class_devices=2)),
        ({"norm": "batch", "inner_data": "real", "step_rule": "fixed"}, Devices(1)),
        ({"scheme": "interleaved", "batch_mixed": 20}, Devices(1)),
    ],
)
def test_a_streamed_run_is_the_run_from_devices(digits, reads, changes, devices):
    """To the bit; and what steps match is read ahead: all of it where one scheme is used."""
    config = dataclasses.replace(SMALL, **changes)
    if config.inner_data == "real":
        config = dataclasses.replace(config, inner_images=12)
    *_, (_, held, info) = api.iterations(config, digits, devices=devices)
    assert not reads
    streaming = dataclasses.replace(devices, stream=True)
    *_, (_, state, others) = api.iterations(config, digits, devices=streaming)
    jax.tree.map(np.testing.assert_array_equal, (state, others), (held, info))
    if config.seeds == 3:
        return  # the fourth one, padding, asks for what the first does: one of them reads itself
    read_ahead = sum(images for early, images in reads if early)
    matched = config.seeds * config.iterations * config.outer_steps * 10 * config.batch_real
    assert read_ahead == (matched if config.scheme == "multi-level" else 0)


@pytest.mark.slow
def test_nothing_is_drawn_after_all_sets_diverged(digits, monkeypatch):
    """Of nine iterations two are run, and one more was drawn for."""
    numbers, orders = [], ahead.orders

    def noted(*arguments):
        drawn = orders(*arguments)
        return lambda number: (numbers.append(number), drawn(number))[1]

    monkeypatch.setattr(ahead, "orders", noted)
    config = dataclasses.replace(SMALL, image_lr=(1e29,), iterations=9)
    assert len(list(api.iterations(config, digits, devices=Devices(1, stream=True)))) == 2
    assert numbers == [0, 1, 2]


def test_what_was_not_expected_is_read_all_the_same():
    rows = np.arange(12, dtype=np.uint8).reshape(3, 4, 1, 1, 1)
    images = HostImages(rows)
    of = lambda *pairs: Picks(*(np.array(part, np.int32) for part in zip(*pairs)))
    first, second, other = of((0, 1), (2, 3)), of((1, 1), (1, 0)), of((2, 2))
    images.expect([[first, second]])
    for places, pixels in ((other, [10]), (first, [1, 11]), (second, [5, 4]), (second, [5, 4])):
        found = jax.jit(images.take)(*map(jnp.asarray, places))
        assert found.ravel().tolist() == pixels
    images.expect([[], [second]])
    assert jax.jit(images.take)(*first).ravel().tolist() == [1, 11]
