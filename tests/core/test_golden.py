"""The golden vectors: the numbers of the paper authors' own program.

An error is the largest absolute difference over the largest absolute golden value of an array.
Double precision reproduces them to 1e-9 (seen: 1e-14), single precision to 1e-4.
"""

import functools
import re
from collections.abc import Callable
from typing import NamedTuple

import golden_files as golden
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gm_jax.build import ACTIVATIONS, NORMS, POOLINGS
from gm_jax.core import distances, iteration, objectives, schemes, step_rules
from gm_jax.core.batching import microbatched, microbatched_pullback, per_class
from gm_jax.core.method import Method
from gm_jax.core.signals import Model, cross_entropy, loss_gradient, pullback
from gm_jax.core.training import EpochKeys, NetworkState, epoch, start
from gm_jax.data.images import Batch, ClassImages
from gm_jax.evaluation.protocol import Protocol, train
from gm_jax.nn import networks
from gm_jax.nn.networks import ARCHITECTURES, ConvNet, Network, from_flax

PRECISIONS = pytest.mark.parametrize(
    ("precise", "tolerance"),
    [
        pytest.param(True, 1e-9, id="float64"),
        pytest.param(False, 1e-4, id="float32", marks=pytest.mark.slow),
    ],
)

VARIANTS = {
    "": {},
    "W32": {"width": 32},
    "D1": {"depth": 1},
    "D4": {"depth": 4},
    "AS": {"activation": ACTIVATIONS["sigmoid"]},
    "AL": {"activation": ACTIVATIONS["leaky-relu"]},
    "NN": {"norm": NORMS["none"]},
    "LN": {"norm": NORMS["layer"]},
    "GN": {"norm": NORMS["group"]},
    "BN": {"norm": NORMS["batch"]},
    "MP": {"pool": POOLINGS["max"]},
    "NP": {"pool": POOLINGS["none"]},
}

START = objectives.Place(jnp.array(0), jnp.array(0), jnp.array(False))

METRICS = {
    "baseline": distances.cosine,
    "improved": distances.cosine_l2,
    "mse": distances.mse_global,
    "cos": distances.cosine_global,
}

OBJECTIVES = {
    "intra": objectives.within,
    "inter": objectives.across,
    "multi_level": objectives.within_and_across,
}

NETWORKS = list(golden.load("networks")[1])


def slow_unless(quick, values):
    """The values as parameters, of which the quick tier takes some."""
    return [v if quick(v) else pytest.param(v, marks=pytest.mark.slow) for v in values]


GRAY = slow_unless(lambda file: file.endswith("gray"), ["matching_gray", "matching_rgb"])


def golden_network(description, norm_layer="InstanceNorm", build=ConvNet, **variant) -> Network:
    """The network of a golden file, whose `init` gives the golden parameters whatever the key."""
    side, channel = description["size"], description["channel"]
    module = build(classes=description["params"][-1][1][0], **variant)
    network = from_flax(module, (side, side, channel))
    seed = description.get("params_seed", 4000)
    params = golden.network_params(description, seed, norm_layer)
    return network._replace(init=lambda key: (params, network.init(key)[1]))


@PRECISIONS
@pytest.mark.parametrize(
    "name", slow_unless(lambda name: re.match("(ConvNet|MLP|LeNet).*_1ch", name), NETWORKS)
)
def test_logits(name, precise, tolerance):
    with jax.enable_x64(precise):
        arrays, descriptions = golden.load("networks")
        description = descriptions[name]
        architecture = name[:-4].lower()
        kinds = {"BN": "BatchNorm", "GN": "GroupNorm", "LN": "LayerNorm"}
        norm_layer = next((kinds[k] for k in kinds if k in name), "InstanceNorm")
        if name.startswith("ConvNet"):
            variant = VARIANTS[name[len("ConvNet") : -4]]
            network = golden_network(description, norm_layer, **variant)
        else:
            network = golden_network(description, norm_layer, ARCHITECTURES[architecture])
        params, stats = network.init(jax.random.key(0))
        shape = (description["channel"], description["size"], description["size"])
        draw = lambda seed, n: np.random.RandomState(seed).standard_normal((n, *shape))
        x = golden.images(draw(4999, 4))
        apply = jax.jit(network.apply)
        assert golden.error(apply(params, stats, x), arrays[f"{name}/logits"]) < tolerance
        if norm_layer == "BatchNorm":
            _, stats = jax.jit(network.train)(params, stats, golden.images(draw(4998, 16)))
            expected = arrays[f"{name}/logits_after_one_train_pass"]
            assert golden.error(apply(params, stats, x), expected) < tolerance


class MatchingCase(NamedTuple):
    """A matching file's inputs, and the signals of both kinds of images."""

    arrays: dict
    network: Network
    params: dict
    real: tuple
    synthetic: jax.Array
    real_signals: dict
    signals: dict
    pull: Callable


@functools.cache
def matching_case(file, precise):
    """Computed once a file and precision: compiling takes longer than all the rest."""
    arrays, description = golden.load(file)
    network = golden_network(description, width=16)
    params, _ = network.init(jax.random.key(0))
    real, synthetic = golden.images(arrays["real"]), golden.images(arrays["syn"])
    model = Model(lambda params, x: network.apply(params, {}, x), features=None)
    signal = functools.partial(loss_gradient.of, model)
    of_class = jax.jit(per_class(microbatched(signal, 3), 1))
    real_signals = of_class(params, real, schemes.class_labels(real))
    labels = schemes.class_labels(synthetic)
    signals = of_class(params, synthetic, labels)
    pull_class = functools.partial(pullback(loss_gradient), model)
    pull_classes = jax.jit(per_class(microbatched_pullback(pull_class, 3), 1))
    pull = lambda cotangents: pull_classes(params, synthetic, labels, cotangents)
    real = (real, schemes.class_labels(real))
    return MatchingCase(arrays, network, params, real, synthetic, real_signals, signals, pull)


@pytest.mark.parametrize("file", GRAY)
@PRECISIONS
def test_class_losses_and_gradients(file, precise, tolerance):
    with jax.enable_x64(precise):
        case = matching_case(file, precise)
        apply = lambda x: case.network.apply(case.params, {}, x)
        losses = jax.jit(jax.vmap(lambda x, y: cross_entropy(apply(x), y)))(*case.real)
        assert golden.error(losses, case.arrays["real_loss"]) < tolerance
        gradients, ours, theirs = case.real_signals, [], []
        for name, (layer, leaf) in golden.layers(golden.load(file)[1]["params"]):
            tensor = np.asarray(gradients[layer][leaf])
            ours.append(np.linalg.norm(tensor.reshape(len(tensor), -1), axis=-1))
            theirs.append(case.arrays[f"real_grad_norm/{name}"])
        # as one table: biases before an instance norm have gradients of rounding noise only
        assert golden.error(np.stack(ours), np.stack(theirs)) < tolerance
        for name, layer in [("classifier.weight", "Dense_0"), ("features.0.weight", "Conv_0")]:
            whole = case.arrays[f"real_grad/{name}"]
            expected = np.stack(
                [golden.from_torch(g, (16, 4, 4) if g.ndim == 2 else ()) for g in whole]
            )
            assert golden.error(gradients[layer]["kernel"], expected) < tolerance


@pytest.mark.parametrize("file", GRAY)
@pytest.mark.parametrize("scheme", OBJECTIVES)
@pytest.mark.parametrize("metric", METRICS)
@PRECISIONS
def test_matching(file, scheme, metric, precise, tolerance):
    """Loss, parts and gradient by the images, of every scheme with every distance."""
    with jax.enable_x64(precise):
        case = matching_case(file, precise)

        def loss(signals, real_signals):
            info = OBJECTIVES[scheme](
                START, METRICS[metric], len(case.synthetic), signals, real_signals
            )
            return info.loss, info

        match = jax.jit(jax.value_and_grad(loss, has_aux=True))
        (_, info), cotangents = match(case.signals, case.real_signals)
        assert golden.error(info.loss, case.arrays[f"{scheme}/{metric}/loss"]) < tolerance
        if scheme != "inter":
            assert golden.error(info.intra, case.arrays[f"intra/{metric}/loss"]) < tolerance
        assert golden.error(info.inter, case.arrays[f"inter/{metric}/loss"]) < tolerance
        gradient = golden.torch_images(case.pull(cotangents))
        assert golden.error(gradient, case.arrays[f"{scheme}/{metric}/grad_syn"]) < tolerance
        each = jax.jit(jax.vmap(METRICS[metric]))(case.signals, case.real_signals)
        assert golden.error(each, case.arrays[f"intra/{metric}/per_class"]) < tolerance


@pytest.mark.parametrize("microbatch", [pytest.param(None, marks=pytest.mark.slow), 2, 1000])
def test_match_images(microbatch, x64):
    """The function that a run calls: class by class, in microbatches, and all classes in one."""
    case = matching_case("matching_rgb", True)
    scheme = schemes.multi_level()
    method = Method(case.network, (scheme,), step_rules.fixed(0), 1, microbatch=microbatch)
    place, keys = START, iteration.step_keys(jax.random.key(0))
    match = functools.partial(iteration.match_images, method, place, keys, scheme)
    info, gradient = jax.jit(match)(
        given_images(case.real[0]),
        NetworkState(case.params, {}, None),
        case.synthetic,
    )
    assert golden.error(info.loss, case.arrays["multi_level/improved/loss"]) < 1e-9
    gradient = golden.torch_images(gradient)
    assert golden.error(gradient, case.arrays["multi_level/improved/grad_syn"]) < 1e-9


@pytest.mark.parametrize(
    "file",
    slow_unless(lambda file: file == "iteration_rgb", ["iteration_rgb", "iteration_gray_baseline"]),
)
@PRECISIONS
def test_whole_iteration(file, precise, tolerance):
    """Three outer steps with given real images; after each, the images, the loss, the network."""
    with jax.enable_x64(precise):
        arrays, description = golden.load(file)
        network = golden_network(description, width=16)
        method = Method(
            network=network,
            schemes=(getattr(schemes, description["scheme"])(),),
            step_rule=step_rules.fixed(description["inner"]),
            outer_steps=description["outer"],
            distance=METRICS[description["metric"]],
        )
        key = jax.random.key(0)
        start_images = golden.images(arrays["syn0"])
        images = start_images.reshape(description["classes"], -1, *start_images.shape[1:])
        state, _ = iteration.begin(method, key, iteration.init(method, images))
        step = jax.jit(functools.partial(iteration.outer_step, method))
        for k in range(description["outer"]):
            data = given_images(golden.images(arrays["real"][k]))
            place = iteration.place(method, jnp.asarray(0), jnp.asarray(k))
            state, info = step(key, data, state, place)
            images = state.images.reshape(-1, *state.images.shape[2:])
            assert golden.error(info.match.loss, arrays[f"loss/{k}"]) < tolerance
            assert golden.error(golden.torch_images(images), arrays[f"syn/{k + 1}"]) < tolerance
            assert info.inner_epochs == (0 if place.last else description["inner"])
            if not place.last:
                layers = golden.layers(description["params"])
                norms = [
                    np.linalg.norm(np.ravel(state.network.params[a][b])) for _, (a, b) in layers
                ]
                assert golden.error(np.stack(norms), arrays[f"net_after/{k}"]) < tolerance


def given_images(real):
    """Normalised images as a set: float pixels that `normalise` maps back to themselves."""
    channel = real.shape[-1]
    counts = jnp.full(len(real), real.shape[1], jnp.int32)
    # pixel / 255 with mean 0 and std 1 / 255 is the pixel
    return ClassImages(real, counts, jnp.zeros(channel), jnp.full(channel, 1 / 255))


@pytest.mark.parametrize(
    "file", slow_unless(lambda file: file == "overfit_stops", ["overfit_stops", "overfit_easy"])
)
@PRECISIONS
def test_overfit_rule(file, precise, tolerance):
    """One case stops early, one runs into the limit of 50; every validation loss on the way."""
    with jax.enable_x64(precise):
        arrays, description = golden.load(file)
        network = golden_network(description, width=16)
        optimiser = optax.sgd(0.01, 0.5)
        rule = step_rules.overfit(description["max_steps"])
        one_epoch = epoch(network, optimiser, 256, None)
        x, y = golden.images(arrays["syn"]), jnp.asarray(arrays["syn_labels"], jnp.int32)
        val_x = golden.images(arrays["val"])
        val_y = jnp.asarray(arrays["val_labels"], jnp.int32)
        loss = lambda state: cross_entropy(network.apply(state.params, {}, val_x), val_y)
        keys = EpochKeys(jax.random.key(0), jax.random.key(0))

        @jax.jit
        def step(state, steps):
            state, _ = one_epoch(keys, state, Batch(x, y))
            return state, rule.update(steps, lambda: loss(state))

        state = start(jax.random.key(0), network, optimiser)
        steps = rule.init(jnp.asarray(0), lambda: jax.jit(loss)(state))
        losses = [steps.loss]
        while rule.keep_going(steps):
            state, steps = step(state, steps)
            losses.append(steps.loss)
        assert steps.epochs == arrays["steps"]
        assert golden.error(jnp.stack(losses), arrays["val_losses"]) < tolerance


@PRECISIONS
def test_evaluation_training(precise, tolerance):
    with jax.enable_x64(precise):
        arrays, description = golden.load("evaluate_gray")
        network = golden_network(description, width=16)
        protocol = Protocol(epochs=description["epochs"])
        x, y = golden.images(arrays["syn"]), jnp.asarray(arrays["syn_labels"], jnp.int32)
        state, (losses, _) = jax.jit(lambda key: train(key, network, protocol, x, y))(
            jax.random.key(0)
        )
        assert golden.error(losses, arrays["train_losses"]) < tolerance
        logits = network.apply(state.params, state.stats, golden.images(arrays["test"]))
        assert golden.error(logits, arrays["test_logits"]) < tolerance


def test_every_network_is_golden():
    """9 architectures and 12 ConvNets for grey and colour, but one that is for colour alone."""
    assert len(NETWORKS) == 2 * (9 + 12) - 1
    convnets = {n for n in NETWORKS if n.startswith("ConvNet")}
    assert {n[len("ConvNet") : -4] for n in convnets} == set(VARIANTS)
    others = {n[:-4].lower() for n in set(NETWORKS) - convnets}
    assert others | {"convnet"} == set(ARCHITECTURES)
    assert networks.ConvNet(10).width == 128
