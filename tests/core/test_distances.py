"""Distances worked by hand, and at zero rows."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden_files import BEYOND

from gm_jax.core import distances
from gm_jax.core.distances import DISTANCES

# One dense kernel [in=2, out=2]: its rows are its columns.
# a: rows (3, 4) and (1, 0); b: rows (4, 3) and (0, 2).  And a bias, which counts only in `global`.
#   row 1: cos = (12 + 12) / (5 * 5) = 24/25;  ||a - b|| = ||(-1, 1)|| = sqrt(2)
#   row 2: cos = 0 / (1 * 2) = 0;              ||a - b|| = ||(1, -2)|| = sqrt(5)
A = {"kernel": jnp.array([[3.0, 1.0], [4.0, 0.0]]), "bias": jnp.array([1.0, 2.0])}
B = {"kernel": jnp.array([[4.0, 0.0], [3.0, 2.0]]), "bias": jnp.array([1.0, 0.0])}
COSINE = (1 - 24 / 25) + (1 - 0)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cosine", COSINE),
        ("l2", 2**0.5 + 5**0.5),
        ("cosine+l2", COSINE + 2**0.5 + 5**0.5),
        # kernel: 1 + 1 + 1 + 4, bias: 0 + 4
        ("mse-global", 11.0),
        # dot: 12 + 12 + 0 + 0 + 1 + 0 = 25; |a|^2 = 9 + 16 + 1 + 1 + 4; |b|^2 = 16 + 9 + 4 + 1
        ("cosine-global", 1 - 25 / (31 * 30) ** 0.5),
    ],
)
def test_by_hand(name, expected):
    assert jnp.allclose(DISTANCES[name](A, B), expected, rtol=1e-6)


# A kernel [in=2, out=3] has three rows of two numbers:
# a: (3, 4), (1, 0), (0, 1); b: (4, 3), (0, 2), (0, 3), so that
#   cos: 24/25, 0, 1;   ||a - b||^2: 1 + 1, 1 + 4, 4;   ||a||, ||b||: 5 and 5, 1 and 2, 1 and 3
C = jnp.array([[3.0, 1.0, 0.0], [4.0, 0.0, 1.0]])
D = jnp.array([[4.0, 0.0, 0.0], [3.0, 2.0, 3.0]])
ANGLES = 1 / 25 + 1 + 0


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cosine", ANGLES),
        ("sqsum", 11.0),
        ("l1", 2.0 + 3.0 + 2.0),
        ("cosine+sqsum", ANGLES + 11),
        ("cosine+sqmean", ANGLES + 11 / 2),
        ("cosine+normdiff", ANGLES + 0 + 1 + 4),
    ],
)
def test_three_rows_by_hand(name, expected):
    assert jnp.allclose(DISTANCES[name](C, D), expected, rtol=1e-6)


def test_idcs_sums_are_golden(x64):
    """Of random tensors [4, 3, 3, 3] and [5, 7]: `mse`, which is a sum, and `l1`; and gradients."""
    held = json.loads((BEYOND / "idc_settings.json").read_text())
    for case in held["matching"]["dist_examples"]["values"][:2]:
        x, y, v = (np.random.RandomState(6601 + n).standard_normal(case["shape"]) for n in range(3))
        for name, theirs in (("sqsum", "mse"), ("l1", "l1")):
            distance = DISTANCES[name]
            a, b = jnp.asarray(x), jnp.asarray(y)
            assert distance(a, b) == pytest.approx(case[theirs], rel=1e-12)
            along = jnp.sum(jax.grad(distance, 1)(a, b) * v)
            assert along == pytest.approx(case[f"{theirs}_grad_y_dot_v"], rel=1e-12)


def test_convolutions_alone():
    """|1 - 3| of the kernel counts; the dense layer and the bias do not."""
    a = {"conv": jnp.ones((1, 1, 1, 1)), "dense": jnp.ones((2, 2)), "bias": jnp.ones(1)}
    b = jax.tree.map(lambda t: 3 * t, a)
    assert distances.of_convolutions(distances.l1)(a, b) == 2


@pytest.mark.parametrize("name", DISTANCES)
def test_a_convolution_has_a_row_an_output_channel(name):
    """A [1, 1, in, out] kernel is the dense kernel [in, out]."""
    a, b = ({"k": t["kernel"][None, None]} for t in (A, B))
    c, d = ({"k": t["kernel"]} for t in (A, B))
    assert jnp.allclose(DISTANCES[name](a, b), DISTANCES[name](c, d))


SLOW = functools.partial(pytest.param, marks=pytest.mark.slow)


@pytest.mark.parametrize("name", DISTANCES)
@pytest.mark.parametrize("size", [0.0, SLOW(1e-30), 1e-12, SLOW(1e-9)])
@pytest.mark.parametrize("which", ["a", "b", "both"])
def test_zero_and_tiny_rows_are_finite_to_second_order(name, size, which):
    """In single precision, where 1e-30 squared is zero and 1e-12 to the power -3 is not finite."""
    row = jnp.array([[size], [-size]])
    other = jnp.array([[1.0], [2.0]])
    a = jnp.concatenate([other, row if which != "b" else other], 1)
    b = jnp.concatenate([other * 2, row if which != "a" else -other], 1)
    f = DISTANCES[name]
    grad = jax.grad(f, (0, 1))
    along = lambda a, b: sum(jnp.sum(jnp.sin(g)) for g in grad(a, b))
    for value in (f(a, b), *grad(a, b), *jax.grad(along, (0, 1))(a, b)):
        assert jnp.all(jnp.isfinite(value))


def test_a_zero_row_counts_no_cosine_and_pulls_nowhere():
    zero, other = jnp.zeros((2, 1)), jnp.array([[3.0], [4.0]])
    assert distances.cosine(zero, other) == 1  # 1 - 0
    assert jnp.all(jax.grad(distances.cosine)(zero, other) == 0)
    # the norm still pulls: ||0 - b||' = (0 - b) / ||b|| = (-3, -4) / 5
    gradient = jax.grad(distances.cosine_l2)(zero, other)
    assert jnp.allclose(gradient, jnp.array([[-0.6], [-0.8]]))
    # and at a = b = 0 its derivative is 0
    assert jnp.all(jax.grad(distances.cosine_l2)(zero, zero) == 0)


@pytest.mark.parametrize("name", DISTANCES)
def test_equal_gradients_are_no_distance_apart(name):
    assert jnp.allclose(DISTANCES[name](A, A), 0, atol=1e-6)


# --- orthogonal -----------------------------------------------------------------------------------


def polar_distance(a, b):
    """||U V^T - U' V'^T||^2 / 2 by numpy's SVD in double precision."""

    def polar(m):
        u, _, vt = np.linalg.svd(m, full_matrices=False)
        return u @ vt

    return ((polar(a) - polar(b)) ** 2).sum() / 2


def with_singular_values(values, shape, seed):
    rng = np.random.default_rng(seed)
    u, _ = np.linalg.qr(rng.standard_normal((shape[0], len(values))))
    v, _ = np.linalg.qr(rng.standard_normal((shape[1], len(values))))
    return u * np.array(values) @ v.T


@jax.jit
def orthogonal_and_derivatives(a, b, v):
    """The distance of a + t v and b at t = 0, its first and its second derivative by t."""
    f = lambda t: distances.orthogonal(a + t * v, b)
    return f(0.0), jax.grad(f)(0.0), jax.grad(jax.grad(f))(0.0)


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (3, 3)])
@pytest.mark.parametrize(
    "values", [(3.0, 2.0, 1.0), (2.0, 2.0, 1.0), (1.0, 1.0, 1.0), (1.0, 1.0 + 1e-9, 0.5)]
)
def test_orthogonal_is_that_of_an_svd_to_second_order(values, shape, x64):
    """U V^T is smooth where singular values are equal; the derivatives of an SVD are not.

    Its derivatives are those of difference quotients of the SVD's distance: f' with an error of
    h^2 = 1e-10, f'' with h^2 + 1e-16 / h^2 at h = 1e-4: 1e-8.
    """
    a, b = (with_singular_values(values, shape, seed) for seed in (0, 1))
    v = np.random.default_rng(2).standard_normal(shape)
    value, slope, curvature = orthogonal_and_derivatives(a, b, v)
    exact = lambda t: polar_distance(a + t * v, b)
    assert value == pytest.approx(exact(0), rel=1e-9)
    assert slope == pytest.approx((exact(1e-5) - exact(-1e-5)) / 2e-5, rel=1e-6, abs=1e-8)
    bent = (exact(1e-4) - 2 * exact(0) + exact(-1e-4)) / 1e-8
    assert curvature == pytest.approx(bent, rel=1e-4, abs=1e-5)


def test_orthogonal_of_nothing_pulls_nowhere():
    """||0 - Q||^2 / 2 with Q of two orthonormal rows is 1; 1.5^12 Q would be its derivative."""
    zero, two = jnp.zeros((3, 2)), jnp.eye(3)[:, :2]
    assert distances.orthogonal(zero, two) == pytest.approx(1, abs=1e-5)
    assert jnp.all(jax.grad(distances.orthogonal)(zero, two) == 0)


def test_orthogonal_of_one_row_is_the_cosine():
    """And it does not see the length: of (3, 4) and (4, 3) times any number, 1 - 24/25."""
    a, b = jnp.array([[3.0], [4.0]]), jnp.array([[4.0], [3.0]])
    assert distances.orthogonal(a, b) == pytest.approx(1 - 24 / 25, abs=1e-6)
    assert distances.orthogonal(1e-6 * a, 1e6 * b) == pytest.approx(1 - 24 / 25, abs=1e-5)
