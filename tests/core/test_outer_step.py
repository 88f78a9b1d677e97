"""What an outer step makes of decoded and augmented images, of some of them, and of inner data."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax.core import augment, distances, iteration, schemes, signals, step_rules
from gm_jax.core.iteration import BATCH_NORM_IMAGES, begin, init, inner_loop, step_keys
from gm_jax.core.method import Method
from gm_jax.core.objectives import Place, within_then_across
from gm_jax.core.parametrisation import clamped, multi_formation, pixels
from gm_jax.core.training import NetworkState, start
from gm_jax.data.drawing import draw_classes
from gm_jax.data.images import Batch, ClassImages
from gm_jax.nn.networks import ConvNet, from_flax, from_functions

KEY = jax.random.key(7)
SHAPE = (8, 8, 3)
SLOW = functools.partial(pytest.param, marks=pytest.mark.slow)


@pytest.fixture(scope="module")
def data():
    """Three classes of six, three and six images in colour."""
    images = np.random.default_rng(0).integers(0, 256, (3, 6, *SHAPE), np.uint8)
    counts = jnp.array([6, 3, 6], jnp.int32)
    return ClassImages(jnp.asarray(images), counts, jnp.full(3, 0.5), jnp.full(3, 0.25))


def convnet():
    return from_flax(ConvNet(3, width=4, depth=1, activation=jax.nn.sigmoid), SHAPE)


def method_of(network, **changes):
    rule = step_rules.fixed(0)
    method = Method(network, (schemes.intra(4),), rule, 1, microbatch=2)
    return method._replace(**changes)


# --- the gradient of a whole match ----------------------------------------------------------------

WHOLE = "color_crop_cutout_flip_scale_rotate"
INTRA_OF_SOME = schemes.intra(4, 2)


def vectors(params):
    return jax.tree.map(jnp.cos, params)


CASES = {
    "multi-level, of 2x2, augmented as DSA's": lambda v: {
        "schemes": (schemes.multi_level(4),),
        "distance": distances.DISTANCES["cosine+sqsum"],
        "parametrisation": multi_formation(2, jnp.zeros(3)),
        "augment": augment.siamese(augment.dsa(WHOLE)),
    },
    "two steps, of some images, of 3x3, augmented as IDC's": lambda v: {
        "schemes": (INTRA_OF_SOME,),
        "distance": distances.DISTANCES["cosine+sqmean"],
        "signal": signals.k_step(2, 0.3),
        "parametrisation": multi_formation(3, jnp.zeros(3)),
        "augment": augment.siamese(augment.idc("color_crop_cutout")),
    },
    "Hessian, of some images of mixed classes": lambda v: {
        "schemes": (schemes.inter(8, 5),),
        "distance": distances.DISTANCES["cosine+normdiff"],
        "signal": signals.hessian_vector(v),
        "parametrisation": multi_formation(2, jnp.zeros(3)),
        "augment": augment.siamese(augment.dsa("rotate_scale")),
    },
    "orthogonal, after a warm-up": lambda v: {
        "schemes": (schemes.of_classes(within_then_across(0, 1), 4),),
        "distance": distances.DISTANCES["orthogonal"],
        "augment": augment.siamese(augment.dsa("color_scale")),
    },
    "Hessian times gradient, in a warm-up": lambda v: {
        "schemes": (schemes.of_classes(within_then_across(9, 9), 4, 2),),
        "distance": distances.DISTANCES["l2"],
        "signal": signals.hessian_gradient,
        "augment": augment.siamese(augment.dsa("rotate")),
    },
    "Gauss-Newton of convolutions": lambda v: {
        "schemes": (schemes.multi_level(4),),
        "distance": distances.of_convolutions(distances.l1),
        "signal": signals.gauss_newton_vector(v),
        "parametrisation": multi_formation(2, jnp.zeros(3)),
        "augment": augment.siamese(augment.idc("color_scale_cutout")),
    },
    "gradient and curvature": lambda v: {
        "schemes": (schemes.multi_level(4),),
        "distance": distances.by_part(distances.cosine, distances.l1, weights=(1, 0.1)),
        "signal": signals.together(signals.loss_gradient, signals.head_curvature),
        "augment": augment.siamese(augment.dsa("crop_scale")),
    },
    "gradient and features of mixed classes": lambda v: {
        "schemes": (schemes.inter(8),),
        "distance": distances.DISTANCES["cosine-global"],
        "signal": signals.together(signals.loss_gradient, signals.features),
        "augment": augment.siamese(augment.dsa("scale")),
    },
}
"""Every kind of scheme, signal, parametrisation and augmentation with some of the others."""


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_gradient_of_a_match_is_a_difference_quotient(name, data, x64):
    """(L(x + h v) - L(x - h v)) / 2h, with an error of order h^2: h = 1e-6."""
    network = convnet()
    params = jax.tree.map(lambda p: p.astype(float), network.init(KEY)[0])
    method = method_of(network, **CASES[name](vectors(params)))
    at = Place(jnp.array(1), jnp.array(0), jnp.array(False))
    keys, state = step_keys(KEY), NetworkState(params, {}, None)

    @jax.jit
    def match(images):
        return iteration.match_images(method, at, keys, method.schemes[0], data, state, images)

    x, v = jax.random.normal(jax.random.key(1), (2, 3, 3, *SHAPE))
    quotient = (match(x + 1e-6 * v)[0].loss - match(x - 1e-6 * v)[0].loss) / 2e-6
    assert float(jnp.sum(match(x)[1] * v)) == pytest.approx(float(quotient), rel=1e-6)


# --- what is matched ------------------------------------------------------------------------------


@pytest.mark.parametrize("plan", [augment.dsa(WHOLE), augment.idc("color_crop_cutout")])
def test_real_and_synthetic_images_of_a_class_are_changed_alike(data, plan):
    """A real class of one image, learned as it is: drawn and augmented, they are the same."""
    one = data._replace(images=data.images[:, :1], counts=jnp.ones(3, jnp.int32))
    images = draw_classes(KEY, one, 2)[0]
    method = method_of(convnet(), augment=augment.siamese(plan))
    scheme, keys = schemes.intra(2), step_keys(KEY)
    real = iteration.real_groups(method, scheme, keys, one)
    synthetic = iteration.synthetic_groups(method, scheme, keys, images)
    np.testing.assert_allclose(real.x[:, 0], synthetic.x[:, 0], atol=1e-6)
    moved = {round(float(np.abs(synthetic.x[c] - images[c]).max()), 4) for c in range(3)}
    assert len(moved) > 1  # and each class in a way of its own


def test_the_same_places_of_every_class_are_drawn():
    """Of five images a class, two: image n of class c is 10 c + n everywhere."""
    numbers = 10.0 * jnp.arange(3)[:, None] + jnp.arange(5)[None]
    images, drawn = jnp.broadcast_to(numbers[..., None, None, None], (3, 5, 1, 1, 1)), set()
    for seed in range(20):
        x, y = INTRA_OF_SOME.synthetic(jax.random.key(seed), images)
        assert y.tolist() == [[c, c] for c in range(3)]
        places = np.asarray(x).reshape(3, 2) - 10 * np.arange(3)[:, None]
        assert (places == places[0]).all()
        assert places[0, 0] != places[0, 1]
        drawn |= set(places[0].tolist())
    assert drawn == set(range(5))


# --- before and between the matches ---------------------------------------------------------------


def test_an_iteration_begins_with_projected_images():
    """Kept within -1 and 1: 9 becomes 1, -9 becomes -1, and 1/4 stays."""
    one = jnp.ones(3)
    method = method_of(convnet(), parametrisation=clamped(pixels, -one, one))
    images = jnp.full((3, 1, *SHAPE), 9.0).at[0].set(-9.0).at[1].set(0.25)
    first, _ = begin(method, KEY, init(method, images))
    assert [float(image.max()) for image in first.images] == [-1.0, 0.25, 1.0]


def test_each_inner_epoch_has_draws_of_its_own(data):
    """Of three epochs: their data, the order, and the change of each of three batches."""
    drawn, changed, orders = [], [], []
    numbers = jnp.arange(12.0)[:, None, None, None] * jnp.ones((12, *SHAPE))

    def inner_data(key, data, images):
        jax.debug.callback(lambda k: drawn.append(k.tobytes()), jax.random.key_data(key))
        return Batch(numbers, jnp.arange(12) % 3)

    def inner_augment(key, batch):
        seen = jax.random.key_data(key), batch.x[:, 0, 0, 0]
        note = lambda key, x: (changed.append(key.tobytes()), orders.append(tuple(x.tolist())))
        jax.debug.callback(note, *seen, ordered=True)
        return batch

    method = method_of(
        from_functions(
            lambda key: {"w": jnp.zeros((3, 3))}, lambda params, x: x.mean((1, 2)) @ params["w"]
        ),
        step_rule=step_rules.fixed(3),
        inner_data=inner_data,
        inner_augment=inner_augment,
        batch_train=4,
    )
    network = start(KEY, method.network, method.network_optimiser(method.network_lr))
    images, first = jnp.zeros((3, 1, *SHAPE)), jnp.zeros((), jnp.int32)
    epochs = jax.jit(lambda: inner_loop(method, step_keys(KEY), data, images, network, first)[1])()
    jax.effects_barrier()
    assert epochs == 3
    assert len(set(drawn)) == 3
    assert len(set(changed)) == len(changed) == 9
    of_epochs = [sum(orders[n : n + 3], ()) for n in (0, 3, 6)]
    assert all(sorted(order) == list(range(12)) for order in of_epochs)
    assert len(set(of_epochs)) == 3


def test_running_statistics_are_those_after_some_real_images_of_each_class(data):
    """0.9 old + 0.1 new, of at most 16 images a class: here all six, or all three twice."""

    def train(params, stats, x):
        return jnp.zeros((len(x), 3)), {"mean": 0.9 * stats["mean"] + 0.1 * x.mean()}

    method = method_of(convnet()._replace(train=train))
    network = NetworkState({}, {"mean": jnp.float32(2)}, None)
    found = iteration.refresh_stats(method, KEY, data, network)
    drawn = draw_classes(KEY, data, BATCH_NORM_IMAGES)[0]
    assert drawn.shape[:2] == (3, 6)
    assert float(found.stats["mean"]) == pytest.approx(1.8 + 0.1 * float(drawn.mean()), rel=1e-6)
