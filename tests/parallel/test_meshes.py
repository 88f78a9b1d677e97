"""Sets and classes over devices, against one device; the tests have four virtual ones."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from command_line import SMALL as WORDS
from command_line import assert_refused
from command_line import gm_jax as command
from jax.sharding import PartitionSpec

import gm_jax
from gm_jax import api
from gm_jax.build import build_method
from gm_jax.config import Config, Devices, Evaluation
from gm_jax.core import inner_data, schemes, step_rules
from gm_jax.core.objectives import (
    MatchInfo,
    within,
    within_and_across,
    within_then_across,
)
from gm_jax.data import spread
from gm_jax.data.drawing import draw_classes, draw_mixed
from gm_jax.data.images import Batch
from gm_jax.data.loading import load
from gm_jax.data.spread import Spread, class_mean, class_sum
from gm_jax.errors import UserError
from gm_jax.fit import check_spread
from gm_jax.parallel import meshes

pytestmark = pytest.mark.usefixtures("default_emitters")

SMALL = Config(
    dataset="digits",
    ipc=2,
    width=4,
    depth=1,
    norm="none",
    batch_real=8,
    outer_steps=3,
    inner_epochs=6,
    network_lr=(0.3,),
    iterations=2,
)
KEY = jax.random.key(3)


@pytest.fixture(scope="module")
def digits():
    return load("digits")


@functools.cache
def run(config, devices):
    """The last state and all infos, as NumPy arrays."""
    infos = []
    for _, state, info in api.iterations(config, load("digits"), devices=devices):
        infos.append(jax.device_get(info))
        last = state
    return jax.device_get(last), infos


def assert_same_bits(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def of_devices(function, count, *specs):
    """A function of each device's share of the classes, of all of them: results stacked."""
    mesh = meshes.make_mesh(jax.devices()[:count], count)
    out = PartitionSpec(meshes.CLASSES)
    inside = lambda *arguments: jax.tree.map(lambda a: a[None], function(*arguments))
    return jax.shard_map(inside, mesh=mesh, in_specs=specs, out_specs=out, check_vma=False)


# --- sets -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("devices", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_sets_over_devices_are_those_of_one_device(devices):
    """To the bit, each with its own inner epochs; 3 sets on 2 or 4 devices, padding unseen."""
    config = dataclasses.replace(SMALL, seeds=3)
    state, infos = run(config, Devices(1))
    assert_same_bits(run(config, Devices(devices)), (state, infos))
    assert state.images.shape[0] == infos[0].match.loss.shape[0] == 3
    epochs = np.stack([info.inner_epochs for info in infos])
    assert len({tuple(of_set.ravel()) for of_set in epochs.transpose(1, 0, 2)}) == 3


@pytest.mark.slow
def test_a_run_goes_on_with_other_devices(digits):
    """Two iterations on four devices, two more on 1, 2, 3 or 4: the bits of the unbroken run."""
    config = dataclasses.replace(SMALL, seeds=4, iterations=4)
    unbroken, _ = run(config, Devices(4))
    half, _ = run(dataclasses.replace(config, iterations=2), Devices(4))
    for devices in (1, 2, 3, 4):
        again = api.iterations(config, digits, state=half, devices=Devices(devices))
        *_, (_, state, _) = again
        assert_same_bits(jax.device_get(state), unbroken)


@pytest.mark.slow
def test_no_more_devices_are_used_than_there_are_sets(caplog, digits):
    """Two sets on four devices use two, one set uses one; the memory of each is logged."""
    caplog.set_level("INFO", "gm_jax")
    for seeds, words in ((2, "on each of 2 devices"), (1, "memory: ")):
        *_, (_, state, _) = api.iterations(dataclasses.replace(SMALL, seeds=seeds), digits)
        assert len(state.images.sharding.device_set) == seeds
        assert words in caplog.messages[-1]
    assert "devices" not in caplog.messages[-1]


@pytest.mark.slow
def test_networks_over_devices_are_those_of_one_device(digits):
    """The same accuracies; 3 networks on 4 devices and 2 on 2, each logged once."""
    condensed = gm_jax.condense(dataclasses.replace(SMALL, iterations=1), digits)
    settings = Evaluation(count=3, epochs=3, devices=1)
    logged = []
    one, real = gm_jax.evaluate(condensed, digits, settings)
    spread_over = dataclasses.replace(settings, devices=4)
    others, _ = gm_jax.evaluate(
        condensed, digits, spread_over, progress=lambda: logged.append("network")
    )
    assert_same_bits(one.accuracies, others.accuracies)
    assert logged == ["network"] * 6
    assert real.accuracies.shape == (1, 3, 1)


# --- classes --------------------------------------------------------------------------------------

CASES = {
    "multi-level": {},
    "intra": {"scheme": "intra"},
    "warm-up, batch norm": {"scheme": "warm-up", "norm": "batch"},
    "dsa, multi-formation": {
        "augment": "dsa",
        "strategy": "crop_flip",
        "factor": 2,
        "start": "mix",
        "batch_synthetic": 1,
    },
    "real inner data": {"inner_data": "real", "inner_images": 20, "step_rule": "fixed"},
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_classes_over_devices_are_those_of_one_device(case):
    """Two sets on 2 x 2 devices: losses, epochs and images, but for the order of additions.

    In float32, sums of 10 numbers in another order differ by some 1e-7 of their value, which two
    iterations of training make larger.  Without a mean over classes only the compiler's choices
    for 5 classes and for 10 differ: the images are the same to 1e-6.
    """
    config = dataclasses.replace(SMALL, seeds=2, **CASES[case])
    (one, infos), (other, others) = (
        run(config, Devices(1)),
        run(config, Devices(4, class_devices=2)),
    )
    for a, b in zip(infos, others):
        assert_same_bits(a.inner_epochs, b.inner_epochs)
        np.testing.assert_allclose(a.match.loss, b.match.loss, rtol=1e-5)
        np.testing.assert_allclose(a.match.inter, b.match.inter, rtol=1e-5)
    np.testing.assert_allclose(one.images, other.images, rtol=1e-4, atol=1e-5)
    if case == "intra":
        np.testing.assert_allclose(one.images, other.images, atol=1e-6)


@pytest.mark.slow
def test_draws_are_the_same_however_classes_are_spread(digits):
    """To the bit: the images of each class on its device, mixed ones on all."""
    counts = digits.train.counts.at[3].set(5)  # fewer than are drawn
    data = digits.train._replace(counts=counts)
    mesh = meshes.make_mesh(jax.devices()[:2], 2)
    parts = meshes.where_classes_lie(mesh, data)
    by_class = of_devices(lambda data: draw_classes(KEY, data, 8), 2, parts)
    mixed = of_devices(lambda data: draw_mixed(KEY, data, 30), 2, parts)
    apart = data._replace(spread=meshes.spread_of(mesh))
    x, y = by_class(apart)
    whole = draw_classes(KEY, data, 8)
    assert_same_bits((x.reshape(whole.x.shape), y.reshape(whole.y.shape)), tuple(whole))
    for device in range(2):
        found = jax.tree.map(lambda a, device=device: a[device], mixed(apart))
        assert_same_bits(found, draw_mixed(KEY, data, 30))


def test_sums_and_means_over_classes_have_the_derivatives_of_the_whole(x64):
    """L = (sum_c |g_c|^2)^2 + |mean_c g_c|^4 of four classes on 1, 2 and 4 devices.

    dL/dg_c = 4 s g_c + 4 |m|^2 m / 4 with s = sum_c |g_c|^2 and m the mean: each device has the
    rows of its own classes, with no factor for the number of devices.
    """
    g = jax.random.normal(KEY, (4, 3))
    s, m = jnp.sum(g**2), g.mean(0)
    expected = 4 * s * g + jnp.sum(m**2) * m[None]

    def loss(where, g):
        mean = class_mean({"w": g}, where)["w"]
        return class_sum(jnp.sum(g**2, 1), where) ** 2 + jnp.sum(mean**2) ** 2

    np.testing.assert_allclose(jax.grad(functools.partial(loss, spread.HERE))(g), expected)
    for count in (2, 4):
        gradient = jax.grad(functools.partial(loss, Spread(meshes.CLASSES)))
        found = of_devices(gradient, count, PartitionSpec(meshes.CLASSES))(g)
        np.testing.assert_allclose(found.reshape(4, 3), expected)


def test_what_is_agreed_on_is_the_first_devices():
    """Device i holds the number i + 1/2, i + 1, and whether i is 0."""

    def numbers(i):
        i = jnp.sum(i)
        held = {"float": i + 0.5, "int": (i + 1).astype(jnp.int32), "bool": i == 0}
        return spread.agreed(Spread(meshes.CLASSES), held)

    found = of_devices(numbers, 4, PartitionSpec(meshes.CLASSES))(jnp.arange(4.0))
    assert found["float"].tolist() == [0.5] * 4
    assert found["int"].tolist() == [1] * 4
    assert found["bool"].tolist() == [True] * 4


@pytest.mark.slow
def test_sets_exchange_nothing_and_classes_only_what_they_must(digits):
    """Collectives in the program's text: none over sets; over classes none in a derivative."""

    def program(devices, class_devices, seeds):
        config = dataclasses.replace(SMALL, seeds=seeds)
        mesh = meshes.make_mesh(jax.devices()[:devices], class_devices)
        sets = meshes.spread_sets(mesh, gm_jax.start_sets(config, digits))
        data = meshes.spread_classes(mesh, digits.train)
        method_of = lambda swept: build_method(config, digits, swept)
        text = api.loop.compile_iteration(method_of, sets, data, 1, mesh).as_text()
        return [
            line for line in text.splitlines() if "all-reduce(" in line or "all-gather(" in line
        ]

    assert program(4, 1, 4) == []
    found = program(2, 2, 1)
    assert found
    assert not any("transpose" in line for line in found)


# --- refused --------------------------------------------------------------------------------------


def with_objective(objective):
    return lambda method: method._replace(
        schemes=(method.schemes[0]._replace(objective=objective),)
    )


def root(place, distance, inter_weight, synthetic, real):
    info = within_and_across(place, distance, inter_weight, synthetic, real)
    return info._replace(loss=info.loss**0.5)


def plain_sum(place, distance, inter_weight, synthetic, real):
    """A part of the loss on each device."""
    loss = jnp.sum(jax.vmap(distance)(synthetic, real))
    return MatchInfo(loss, loss, loss)


def centred(place, distance, inter_weight, synthetic, real):
    """Right losses, wrong gradients: the mean of all classes in the term of each."""
    less_mean = lambda g: jax.tree.map(lambda a, m: a - m[None], g, class_mean(g, place.spread))
    distances = jax.vmap(distance)(less_mean(synthetic), less_mean(real))
    loss = class_sum(distances, place.spread)
    return MatchInfo(loss, loss, loss)


def late(place, distance, inter_weight, synthetic, real):
    """Right in the first iteration."""
    info = within(place, distance, inter_weight, synthetic, real)
    part = jnp.sum(jax.vmap(distance)(synthetic, real))
    return info._replace(loss=jnp.where(place.iteration > 0, part, info.loss))


def at_last(place, distance, inter_weight, synthetic, real):
    """Right but in the last outer step."""
    info = within(place, distance, inter_weight, synthetic, real)
    part = jnp.sum(jax.vmap(distance)(synthetic, real))
    return info._replace(loss=jnp.where(place.last, part, info.loss))


def log_of_products(a, b):
    """NaN where a product is negative: on one device as on many."""
    return sum(jnp.log(jnp.vdot(p, q)) for p, q in zip(jax.tree.leaves(a), jax.tree.leaves(b)))


def of_classes(key, data, images):
    """Real images of the classes at hand."""
    x, y = draw_classes(key, data, 2)
    return Batch(x.reshape(-1, *x.shape[2:]), y.reshape(-1))


@pytest.mark.slow
def test_variants_that_differ_from_device_to_device_are_refused(digits):
    """Each with the part that is to blame; those that are the same are not."""
    check = lambda variant: check_spread(SMALL, digits, variant, Devices(class_devices=2))
    for objective in (root, within, within_and_across, within_then_across(1, 1)):
        check(with_objective(objective))
    real = lambda method: method._replace(inner_data=inner_data.real(20))
    check(lambda method: real(method)._replace(step_rule=step_rules.fixed(2)))
    check(lambda method: method._replace(distance=log_of_products))
    check_spread(SMALL, digits, with_objective(plain_sum), Devices())
    mixed = (schemes.inter(16, 8),)
    for variant, part in (
        (with_objective(plain_sum), "objective"),
        (with_objective(centred), "objective"),
        (with_objective(late), "objective"),
        (with_objective(at_last), "objective"),
        (lambda method: method._replace(inner_data=of_classes), "inner_data"),
        (lambda method: real(method)._replace(step_rule=step_rules.overfit(2)), "step_rule"),
        (lambda method: method._replace(schemes=mixed), "scheme"),
    ):
        with pytest.raises(UserError, match=part):
            check(variant)
    with pytest.raises(UserError, match="class_sum"):
        api.iterations(
            SMALL, digits, with_objective(plain_sum), devices=Devices(2, class_devices=2)
        )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--devices 5", ["--devices 5", "4"]),
        ("--class-devices 3", ["--class-devices 3", "10 classes"]),
        ("--class-devices 5", ["--class-devices 5", "at most 4"]),
        ("--devices 3 --class-devices 2", ["--class-devices 2", "3 devices"]),
        ("--class-devices 2 --scheme interleaved", ["--class-devices 2", "interleaved"]),
        ("--distributed --devices 2", ["--devices", "--distributed"]),
        ("--processes 2", ["--processes", "--distributed"]),
        ("--distributed --coordinator here", ["--coordinator here", "HOST:PORT"]),
        (
            "--distributed --coordinator a:1 --processes 2 --process 2",
            ["--process 2", "--processes 2"],
        ),
    ],
)
def test_devices_that_do_not_fit_are_one_line(tmp_path, words, said):
    assert_refused(command("condense", *WORDS, "--out", tmp_path / "run", *words.split()), *said)
    assert not (tmp_path / "run").exists()


def test_more_devices_than_there_are_do_not_evaluate(digits):
    condensed = gm_jax.condense(dataclasses.replace(SMALL, iterations=1), digits)
    with pytest.raises(UserError, match="--devices 9"):
        gm_jax.evaluate(condensed, digits, Evaluation(devices=9))
