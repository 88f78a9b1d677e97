"""What is blamed for a run that diverges: settings made to overflow one thing at a time."""

import functools

import jax
import jax.numpy as jnp
import optax
import pytest

from gm_jax.build import build_method, start_sets
from gm_jax.config import Config
from gm_jax.core.distances import by_part, cosine_l2
from gm_jax.core.divergence import Divergence, find_divergence
from gm_jax.core.objectives import MatchInfo, within
from gm_jax.core.signals import features, loss_gradient, together
from gm_jax.data.loading import load

SMALL = {
    "dataset": "digits",
    "ipc": 2,
    "width": 4,
    "depth": 1,
    "outer_steps": 3,
    "inner_epochs": 4,
    "batch_real": 12,
}


def found_in(config, change=lambda method: method, scale=1.0):
    digits = load("digits")
    keys, _, state = start_sets(config, digits)
    state = jax.tree.map(lambda a: a[0], state)
    state = state._replace(images=state.images * scale)
    return find_divergence(change(build_method(config, digits)), keys[0], digits.train, state)


@pytest.mark.slow
def test_a_run_that_is_finite_is_not_blamed():
    assert found_in(Config(**SMALL)) is None


SLOW = functools.partial(pytest.param, marks=pytest.mark.slow)
HEAVY = {"inter_weight": (1e38,), "scheme": "multi-level"}
NAMED = {"norm": "none", "counted": "convolutions"}


@pytest.mark.parametrize(
    ("settings", "scale", "part", "step", "tensor", "cause"),
    [
        # 1e38 times a distance of some tens is beyond 3.4e38, the largest float32
        SLOW(HEAVY, 1.0, "inter", 0, "Dense_0/kernel", "inter_weight"),
        # the weights overflow in the inner epochs after step 0, the images are still small
        SLOW({"network_lr": (1e25,)}, 1.0, "intra", 1, "Conv_0/bias", "network_lr"),
        # images of 1e24 after step 0 overflow the weights too: the images are to blame
        SLOW({"image_lr": (1e24,)}, 1.0, "intra", 1, "Conv_0/bias", "image_lr"),
        # squares of gradients of images of 1e30 overflow in the first step
        ({"norm": "none"}, 1e30, "intra", 0, "Conv_0/kernel", "image_lr"),
        # a distance that needs the tensors' names
        SLOW(NAMED, 1e30, "intra", 0, "Conv_0/kernel", "image_lr"),
    ],
)
def test_the_part_the_tensor_and_the_likely_cause(settings, scale, part, step, tensor, cause):
    found = found_in(Config(**SMALL | settings), scale=scale)
    assert found == Divergence(0, step, part, tensor, cause)


@pytest.mark.slow
def test_a_weight_of_one_is_not_to_blame():
    """Across classes alone the squares overflow, whatever they are multiplied with."""
    settings = {"distance": "sqsum", "scheme": "inter", "norm": "none", "inter_weight": (1.0,)}
    found = found_in(Config(**SMALL | settings), scale=1e25)
    assert (found.step, found.part, found.cause) == (0, "inter", "image_lr")


@pytest.mark.slow
def test_a_loss_of_ones_own_whose_parts_are_finite():
    def objective(place, distance, inter_weight, synthetic, real):
        info = within(place, distance, inter_weight, synthetic, real)
        return MatchInfo(info.loss * jnp.inf, jnp.zeros(()), jnp.zeros(()))

    change = lambda method: method._replace(
        schemes=(method.schemes[0]._replace(objective=objective),)
    )
    found = found_in(Config(**SMALL), change)
    assert (found.step, found.part, found.cause) == (0, "loss", "image_lr")


@pytest.mark.slow
def test_the_part_of_a_signal_of_two():
    """A distance that needs both parts: the features overflow, times 1e38."""
    distance = by_part(cosine_l2, lambda a, b: jnp.sum((1e38 * (a - b)) ** 2))
    change = lambda method: method._replace(
        signal=together(loss_gradient, features), distance=distance
    )
    found = found_in(Config(**SMALL), change)
    assert (found.step, found.part, found.tensor) == (0, "intra", "1")


@pytest.mark.slow
def test_a_signal_of_real_images_alone():
    """1e30 times their gradients, whose squares overflow; those of the synthetic ones do not."""
    change = lambda method: method._replace(
        signal=together(loss_gradient, weights=(1,)),
        real_signal=together(loss_gradient, weights=(1e30,)),
    )
    found = found_in(Config(**SMALL), change)
    assert (found.step, found.part, found.tensor) == (0, "intra", "0/Conv_0/kernel")


@pytest.mark.slow
def test_a_gradient_that_is_not_finite_where_the_loss_is():
    """sqrt at 0, of the signals' difference times 0: no learning rate is to blame."""

    def root(a, b):
        square = sum(jnp.sum((p - q) ** 2) for p, q in zip(jax.tree.leaves(a), jax.tree.leaves(b)))
        return jnp.sqrt(0 * square)

    found = found_in(Config(**SMALL), lambda method: method._replace(distance=root))
    assert found == Divergence(0, 0, "gradient", None, None)


@pytest.mark.slow
def test_images_that_overflow_after_a_finite_loss():
    """Gradients above 1e-3, times 1e3 times 3.4e38, are beyond float32; the loss is not."""
    huge = optax.chain(optax.scale(-3.4e38), optax.scale(1e3))
    found = found_in(
        Config(**SMALL), lambda method: method._replace(image_optimiser=lambda lr: huge)
    )
    assert found == Divergence(0, 0, "images", None, "image_lr")


@pytest.mark.slow
def test_the_tensor_is_the_first_whose_distance_is_not_finite():
    """A network with one weight of infinity: that tensor is named."""

    def change(method):
        def spoiled(key):
            params, stats = method.network.init(key)
            kernel = params["Dense_0"]["kernel"].at[0, 0].set(jnp.inf)
            return params | {"Dense_0": params["Dense_0"] | {"kernel": kernel}}, stats

        return method._replace(network=method.network._replace(init=spoiled))

    found = found_in(Config(**SMALL), change)
    assert (found.step, found.tensor) == (0, "Dense_0/kernel")
