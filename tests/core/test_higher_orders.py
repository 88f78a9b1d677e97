"""Signals of higher order: what they are, that derivatives pass through them, what they refuse."""

import functools

import jax
import jax.numpy as jnp
import pytest
from jax.flatten_util import ravel_pytree

from gm_jax.core import distances, iteration, signals
from gm_jax.core.batching import microbatched
from gm_jax.core.distances import by_part, cosine_l2, l1, mse_global
from gm_jax.core.method import Method
from gm_jax.core.objectives import Place, within_and_across
from gm_jax.core.schemes import class_labels, multi_level
from gm_jax.core.signals import (
    Model,
    cross_entropy,
    features,
    gauss_newton_gradient,
    gauss_newton_vector,
    head_curvature,
    hessian_gradient,
    hessian_vector,
    k_step,
    loss_gradient,
    together,
)
from gm_jax.core.step_rules import fixed
from gm_jax.core.training import NetworkState
from gm_jax.data.images import Batch
from gm_jax.errors import UserError
from gm_jax.nn import winograd
from gm_jax.nn.convolution import FORMS
from gm_jax.nn.networks import ConvNet, from_flax, from_functions

# --- a network of three parameters: logits (c a, -a) of a = tanh(w m + b), m an image's mean -----


def three(params, x):
    w, b, c = params
    a = jnp.tanh(w * jnp.mean(x, (1, 2, 3)) + b)
    return jnp.stack([c * a, -a], -1)


SMALL = Model(three, lambda params, x: jnp.zeros((len(x), 1)))
PARAMS = jnp.array([0.7, -0.3, 1.2])
X = jnp.array([0.5, -1.0, 2.0, 0.1]).reshape(4, 1, 1, 1)
Y = jnp.array([0, 1, 1, 0])
V = jnp.array([0.4, -1.1, 0.3])


def loss(params, x=X, y=Y):
    return cross_entropy(three(params, x), y)


def small(signal, x=X, y=Y):
    params, x = PARAMS.astype(float), x.astype(float)
    return signal.of(SMALL, params, x, y)


def test_hessian_products_are_those_of_the_dense_hessian(x64):
    params = PARAMS.astype(float)
    hessian, g = jax.hessian(loss)(params, X.astype(float)), jax.grad(loss)(params, X.astype(float))
    assert jnp.allclose(small(hessian_vector(V)), hessian @ V, rtol=1e-12)
    assert jnp.allclose(small(hessian_gradient), hessian @ g, rtol=1e-12)


def test_gauss_newton_products_are_those_of_the_dense_matrix(x64):
    """mean over images of J^T (diag(p) - p p^T) J, each of these written out."""
    params, x = PARAMS.astype(float), X.astype(float)
    jacobians, p = jax.jacobian(three)(params, x), jax.nn.softmax(three(params, x))
    by_logits = jax.vmap(lambda p: jnp.diag(p) - jnp.outer(p, p))(p)
    matrix = jnp.einsum("nkp,nkl,nlq->pq", jacobians, by_logits, jacobians) / len(x)
    assert jnp.allclose(small(gauss_newton_vector(V)), matrix @ V, rtol=1e-12)
    g = jax.grad(loss)(params, x)
    assert jnp.allclose(small(gauss_newton_gradient), matrix @ g, rtol=1e-12)
    assert not jnp.allclose(matrix @ V, small(hessian_vector(V)), rtol=1e-2)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_k_steps_are_those_of_a_loop(k, x64):
    params = PARAMS.astype(float)
    for _ in range(k):
        params = params - 0.3 * jax.grad(loss)(params, X.astype(float))
    assert jnp.allclose(small(k_step(k, 0.3)), params - PARAMS, rtol=1e-12)


def test_one_step_is_minus_lr_times_the_gradient(x64):
    assert jnp.array_equal(small(k_step(1, 0.3)), -0.3 * small(loss_gradient))


def test_steps_of_many_rates_at_once(x64):
    """Under `vmap`, rates in double precision beside images in single: as sweeps make them."""
    rates = jnp.array([0.1, 0.3], jnp.float64)
    x, v = X.astype(jnp.float32), V.astype(jnp.float32)
    params = PARAMS.astype(jnp.float32)
    pull = lambda lr: signals.pullback(k_step(2, lr))(SMALL, params, x, Y, v)
    together_ = jax.vmap(pull)(rates)
    assert jnp.allclose(together_, jnp.stack([pull(0.1), pull(0.3)]), rtol=1e-5)


def test_two_steps_hold_the_hessian(x64):
    """params_2 - params_0 = -lr g - lr g(params - lr g) = -2 lr g + lr^2 H g + O(lr^3)."""
    rest = lambda lr: small(k_step(2, lr)) + 2 * lr * small(loss_gradient)
    assert jnp.allclose(rest(1e-4) / 1e-8, small(hessian_gradient), rtol=1e-3)


def test_few_steps_keep_their_digits_in_single_precision():
    """lr = 1e-7 moves parameters of about 1 by less than their rounding; the change is kept."""
    found = k_step(2, 1e-7).of(SMALL, PARAMS, X, Y)
    assert jnp.allclose(found / -2e-7, loss_gradient.of(SMALL, PARAMS, X, Y), rtol=1e-4)


# --- a network with a linear last layer -----------------------------------------------------------

HEAD = {
    "w": jax.random.normal(jax.random.key(1), (4, 3)),
    "head": jax.random.normal(jax.random.key(2), (3, 2)),
    "bias": jnp.array([0.1, -0.4]),
}


def head_features(params, x):
    return jnp.tanh(x.reshape(len(x), -1) @ params["w"])


HEADED = Model(
    lambda params, x: head_features(params, x) @ params["head"] + params["bias"][None],
    head_features,
)
IMAGES = jax.random.normal(jax.random.key(3), (5, 2, 2, 1))
LABELS = jnp.array([0, 1, 1, 0, 1])
DIRECTION = jax.tree.map(jnp.cos, HEAD)


def double(*trees):
    return jax.tree.map(lambda t: jnp.asarray(t, float), trees)


def test_head_curvature_is_the_diagonal_of_the_last_layers_hessian(x64):
    params, x = double(HEAD, IMAGES)

    def of_last(last):
        return cross_entropy(HEADED.logits(params | last, x), LABELS)

    last = {name: params[name] for name in ("head", "bias")}
    flat, unflatten = ravel_pytree(last)
    hessian = jax.hessian(lambda flat: of_last(unflatten(flat)))(flat)
    expected = unflatten(jnp.diag(hessian))
    found = head_curvature.of(HEADED, params, x, LABELS)
    assert jnp.allclose(found[:-1], expected["head"], rtol=1e-12)
    assert jnp.allclose(found[-1], expected["bias"], rtol=1e-12)


def test_features_are_their_mean():
    expected = jnp.mean(head_features(HEAD, IMAGES), 0)
    assert jnp.allclose(features.of(HEADED, HEAD, IMAGES, LABELS), expected, rtol=1e-6)


SIGNALS = {
    "gradient": loss_gradient,
    "1 step": k_step(1, 0.5),
    "3 steps": k_step(3, 0.5),
    "hessian vector": hessian_vector(DIRECTION),
    "hessian gradient": hessian_gradient,
    "gauss-newton vector": gauss_newton_vector(DIRECTION),
    "gauss-newton gradient": gauss_newton_gradient,
    "head curvature": head_curvature,
    "features": features,
    "together": together(loss_gradient, features, weights=(1, 0.5)),
    "together with steps": together(loss_gradient, k_step(2, 0.5)),
}
every = pytest.mark.parametrize("name", SIGNALS)


def close(a, b, tolerance=1e-9):
    a, b = (ravel_pytree(tree)[0] for tree in (a, b))
    return jnp.max(jnp.abs(a - b)) <= tolerance * jnp.max(jnp.abs(b))


@every
def test_padding_counts_nothing(name, x64):
    params, x = double(HEAD, IMAGES)
    of = functools.partial(SIGNALS[name].of, HEADED, params)
    padded = jnp.concatenate([x, jnp.ones((2, 2, 2, 1))])
    assert close(of(padded, jnp.array([*LABELS, -1, -1])), of(x, LABELS))


@every
def test_a_signal_says_whether_it_is_a_mean_over_images(name, x64):
    """In microbatches of 2 of 5 images: the same exactly where it says so."""
    params, x = double(HEAD, IMAGES)
    signal = SIGNALS[name]
    of = functools.partial(signal.of, HEADED)
    same = close(microbatched(of, 2)(params, x, LABELS), of(params, x, LABELS))
    assert same == signal.mean_over_images


@every
def test_soft_labels_that_are_hard_are_the_same(name, x64):
    params, x = double(HEAD, IMAGES)
    of = functools.partial(SIGNALS[name].of, HEADED, params, x)
    assert close(of(jax.nn.one_hot(LABELS, 2)), of(LABELS))


@pytest.mark.parametrize("name", [name for name in SIGNALS if SIGNALS[name].pullback is not None])
def test_a_pullback_is_that_of_reverse_mode(name, x64):
    """Of signals that have one written out; of others it is reverse mode."""
    params, x = double(HEAD, IMAGES)
    signal = SIGNALS[name]
    found, reverse = jax.vjp(lambda x: signal.of(HEADED, params, x, LABELS), x)
    v = jax.tree.map(jnp.sin, found)
    assert close(signals.pullback(signal)(HEADED, params, x, LABELS, v), reverse(v)[0])


def test_weights_are_factors(x64):
    params, x = double(HEAD, IMAGES)
    of = lambda signal: signal.of(HEADED, params, x, LABELS)
    assert close(of(SIGNALS["together"]), (of(loss_gradient), of(features) / 2))


# --- the matching loss of a convolutional network -------------------------------------------------

START = Place(jnp.array(0), jnp.array(0), jnp.array(False))
SHAPE = (6, 6, 1)


def network(form="xla", activation=jax.nn.sigmoid, width=4, depth=1):
    module = ConvNet(3, width, depth, activation=activation, convolution=FORMS[form])
    return from_flax(module, SHAPE)


def convnet_signals(params):
    v = jax.tree.map(jnp.cos, params)
    whole = {name: signal for name, signal in SIGNALS.items() if "vector" not in name}
    return whole | {
        "hessian vector": hessian_vector(v),
        "gauss-newton vector": gauss_newton_vector(v),
    }


DISTANCES = {
    "head curvature": l1,
    "features": mse_global,
    "together": by_part(cosine_l2, mse_global, weights=(1, 0.1)),
    "together with steps": by_part(cosine_l2, cosine_l2),
}


def matching(name, of_network, params, real):
    """`images [C, n, *SHAPE] -> (loss, gradient)` as the library computes them."""
    signal, distance = convnet_signals(params)[name], DISTANCES.get(name, cosine_l2)
    method = Method(of_network, (multi_level(),), fixed(0), 1, distance, signal, microbatch=2)
    state = NetworkState(params, {}, None)
    of_real = iteration.group_signals(method, state, Batch(real, class_labels(real)))
    match = functools.partial(within_and_across, START, distance, 3)

    def at(images):
        groups = Batch(images, class_labels(images))
        info, gradient = iteration.match_signals(method, match, state, of_real, groups)
        return info.loss, gradient

    return at


def start(of_network):
    params, _ = of_network.init(jax.random.key(0))
    real, images = jax.random.normal(jax.random.key(5), (2, 3, 3, *SHAPE))
    return *double(params), real, images


@every
@pytest.mark.slow
def test_gradients_by_the_images_are_difference_quotients(name, x64):
    """(L(x + h v) - L(x - h v)) / 2h, with an error of order h^2: h = 1e-5."""
    params, real, images = start(network())
    at = jax.jit(matching(name, network(), params, real))
    v = jax.random.normal(jax.random.key(6), images.shape)
    quotient = (at(images + 1e-5 * v)[0] - at(images - 1e-5 * v)[0]) / 2e-5
    assert float(jnp.sum(at(images)[1] * v)) == pytest.approx(float(quotient), rel=1e-6)


@pytest.mark.parametrize("form", ["products", "winograd"])
@pytest.mark.parametrize("name", ["3 steps", "hessian vector", "gauss-newton gradient"])
@pytest.mark.slow
def test_every_convolution_has_the_same_derivatives(name, form, x64, monkeypatch):
    """The second block has 16 channels and 3x3 pixels, which Winograd's tiles are taken for."""
    tiled = []
    for function in ("convolve", "input_gradient", "weight_gradient"):
        of = getattr(winograd, function)
        noted = lambda *arguments, of=of: (tiled.append(of), of(*arguments))[1]
        monkeypatch.setattr(winograd, function, noted)
    plain = network(width=16, depth=2)
    params, real, images = start(plain)
    loss, gradient = jax.jit(matching(name, plain, params, real))(images)
    assert not tiled
    found = jax.jit(matching(name, network(form, width=16, depth=2), params, real))(images)
    assert (len(set(tiled)) == 3) == (form == "winograd")
    assert close(found[0], loss)
    assert close(found[1], gradient, 1e-8)


@every
@pytest.mark.slow
def test_many_sets_at_once(name, x64):
    params, real, images = start(network())
    at = jax.jit(jax.vmap(matching(name, network(), params, real)))
    both = jnp.stack([images, images[::-1]])
    for one, of_images in zip(zip(*at(both)), both):
        assert close(one, matching(name, network(), params, real)(of_images), 1e-8)


@every
@pytest.mark.slow
def test_dead_units_and_empty_images_are_finite(name):
    """All units are dead, and the images of one class are zero."""
    of_network = network(activation=jax.nn.relu)
    params, real, images = start(of_network)
    dead = jax.tree_util.tree_map_with_path(
        lambda path, p: p - 100 if "Norm" in str(path) and "bias" in str(path) else p, params
    )
    assert jnp.any(of_network.features(params, {}, real[0]) != 0)
    assert jnp.all(of_network.features(dead, {}, real[0]) == 0)
    images = images.at[0].set(0)
    for at in (params, dead):
        loss, gradient = jax.jit(matching(name, of_network, at, real))(images)
        assert jnp.isfinite(loss)
        assert jnp.all(jnp.isfinite(gradient))


@pytest.mark.slow
def test_forward_mode_of_every_order(x64):
    """Of f(t) = L(images + t v): df by jvp, d2f by forward over reverse, over forward, as reverse.

    And the Taylor polynomial of third order: |f(h) - p(h)| = O(h^4).
    """
    params, real, images = start(network())
    v = jax.random.normal(jax.random.key(7), images.shape)
    model = Model(lambda p, x: network().apply(p, {}, x), lambda p, x: network().features(p, {}, x))
    gradient = lambda x: loss_gradient.of(model, params, x, jnp.zeros(len(x), int))
    of_real = gradient(real[0])
    f = lambda t: cosine_l2(gradient(images[0] + t * v[0]), of_real)
    fwd, rev = jax.jacfwd, jax.jacrev
    first, second, third = (jax.jit(d)(0.0) for d in (fwd(f), fwd(fwd(f)), fwd(fwd(fwd(f)))))
    assert close(first, jax.jit(jax.grad(f))(0.0))
    for other in (fwd(rev(f)), rev(fwd(f)), rev(rev(f)), jax.hessian(f)):
        assert close(second, jax.jit(other)(0.0), 1e-8)
    rests = [abs(f(h) - f(0.0) - first * h - second * h**2 / 2 - third * h**3 / 6)
             for h in (1e-2, 5e-3)]  # fmt: skip
    assert 12 < rests[0] / rests[1] < 20  # 2^4 = 16


@pytest.mark.slow
def test_second_moments_are_what_a_hessian_product_matches(x64):
    """A quadratic problem: one pixel, logits x w, at w = 0.

    There p = 1/K for every image, so that H = mean(x^2) (I/K - 1 1^T/K^2): H v is matched by an
    image of x^2 = mean(x^2), where the gradient of one class, -mean(x) (e_y - 1/K), is matched by x
    = mean(x).  Real pixels 1 and 3: 5^(1/2) against 2.
    """
    line = from_functions(lambda key: jnp.zeros((1, 2)), lambda w, x: x.reshape(-1, 1) @ w)
    real = jnp.array([1.0, 3.0]).reshape(1, 2, 1, 1, 1)
    for signal, optimum in ((hessian_vector(jnp.array([[1.0, -0.5]])), 5**0.5), (loss_gradient, 2)):
        method = Method(line, (multi_level(),), fixed(0), 1, distances.sqsum, signal)
        state = NetworkState(jnp.zeros((1, 2)), {}, None)
        of_real = iteration.group_signals(method, state, Batch(real, class_labels(real)))
        match = functools.partial(within_and_across, START, distances.sqsum, 1)
        pull = jax.jit(functools.partial(iteration.match_signals, method, match, state, of_real))
        image = jnp.ones((1, 1, 1, 1, 1))
        for _ in range(200):
            image = image - 0.05 * pull(Batch(image, class_labels(image)))[1]
        assert image.item() == pytest.approx(optimum, rel=1e-6)


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: k_step(0, 0.1), ["k is 0", "1 or more"]),
        (lambda: by_part(), ["at least one"]),
        (lambda: distances.of_convolutions(l1)(V, V), ["no kernel"]),
        (lambda: small(hessian_vector(jnp.ones(4))), ["(4,)", "(3,)"]),
        (lambda: small(gauss_newton_vector({"w": V})), ["w", "(3,)"]),
        (lambda: together(), ["one signal or more"]),
        (lambda: together(features, weights=(1, 2)), ["2 weights", "1"]),
        (lambda: by_part(l1, weights=(1, 2)), ["2 weights", "1"]),
        (lambda: by_part(l1, l1)(V, V), ["2 parts", "together"]),
    ],
)
def test_a_wrong_argument_is_one_line(make, named):
    with pytest.raises(UserError) as error:
        make()
    assert "\n" not in str(error.value)
    assert all(part in str(error.value) for part in named)
