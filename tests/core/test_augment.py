"""Augmentation: the golden vectors of the published programs, and the laws of what is drawn."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden_files import BEYOND, images, torch_images

from gm_jax.core import augment, operations
from gm_jax.core.augment import dsa, idc
from gm_jax.core.operations import NUMBERS, OPERATIONS, Operation
from gm_jax.errors import UserError
from gm_jax.published_settings import DSA_STRATEGIES, IDC_EVALUATION, IDC_MATCHING

KEY = jax.random.key(0)
SHAPES = {"gray": (4, 1, 28, 28), "rgb": (2, 3, 32, 32)}
SEEDS = {"gray": (5101, 5201, 5301), "rgb": (5103, 5203, 5303)}
DSA, IDC = (
    json.loads((BEYOND / f"{name}.json").read_text()) for name in ("augment_dsa", "augment_idc")
)
PRECISIONS = pytest.mark.parametrize(
    "precise",
    [
        pytest.param(True, id="float64"),
        pytest.param(False, id="float32", marks=pytest.mark.slow),
    ],
)
ONE_OF = ["crop", "scale", "rotate"]


def slow_unless(quick, values):
    """The values as parameters, of which the quick tier takes some."""
    return [v if quick(v) else pytest.param(v, marks=pytest.mark.slow) for v in values]


# --- golden vectors -------------------------------------------------------------------------------


def dsa_parameters(case):
    """The operation's parameters, in the order of its arguments: each a number, or [n]."""
    names = {
        "color": ["u_brightness", "u_saturation", "u_contrast"],
        "crop": ["rows", "cols"],
        "cutout": ["rows", "cols"],
        "flip": ["flipped"],
        "scale": ["sx", "sy"],
        "rotate": ["angle"],
    }.get(case["op"], ["u"])
    return {case["op"]: [np.array(case["params"][name]) for name in names]}


def idc_parameters(case):
    """Of each operation that is applied."""
    params = {name: np.array(value) for name, value in case["params"].items()}
    color = [params[f"{part}_u"] for part in ("brightness", "saturation", "contrast")]
    given = {"color": color}
    if "flip_u" in params:
        given["flip"] = [params["flip_u"] < 0.5]
    for name, parts in [("crop", ["rows", "cols"]), ("scale", ["sx", "sy"]), ("rotate", ["angle"])]:
        if case["params"]["choice"] == name:
            given[name] = [params[f"{name}_{part}"] for part in parts]
    if "cutout_rows" in params:
        given["cutout"] = [params["cutout_rows"], params["cutout_cols"]]
    return given


def given_parameters(plan, parameters):
    """The plan, with the parameters {name: tuple} in the place of drawn ones."""

    def fixed(operation):
        given = parameters[operation.apply.__name__]
        return operation._replace(law=lambda u, h, w: given)

    return tuple(tuple(fixed(operation) for operation in stage) for stage in plan)


@functools.partial(jax.jit, static_argnames="plan")
def cases_out_and_gradient(plan, parameters, x, w):
    """Outputs and gradients [cases, n, ...] for parameters [cases, n], each image by itself."""

    def of_image(given, image):
        return augment.siamese(given_parameters(plan, given))(KEY, image[None])[0]

    def of_case(given):
        out, pull = jax.vjp(lambda x: jax.vmap(of_image)(given, x), x)
        return out, pull(w)[0]

    return jax.vmap(of_case)(parameters)


def check_golden(file, plan, kind, cases, parameters, precise):
    """All cases that differ in their parameters alone, by one program."""
    tolerance = {"atol": 1e-6 if precise else 2e-5, "rtol": 0}
    check = {"rel": 1e-10, "abs": 1e-9} if precise else {"rel": 1e-4, "abs": 5e-3}
    shape, seeds = SHAPES[kind], SEEDS[kind]
    x, w, v = (np.random.RandomState(seed).standard_normal(shape) for seed in seeds)
    with jax.enable_x64(precise):
        stacked = jax.tree.map(
            lambda *leaves: jnp.stack([jnp.broadcast_to(leaf, shape[0]) for leaf in leaves]),
            *[parameters(case) for case in cases],
        )
        results = cases_out_and_gradient(plan, stacked, images(x), images(w))
        outs, gradients = (torch_images(result).astype(np.float64) for result in results)
    with np.load(BEYOND / f"{file}.npz") as arrays:
        for case, out, gradient in zip(cases, outs, gradients, strict=True):
            key = case["key"]
            ours = {
                "out_dot_w": (out * w).sum(),
                "out_sq": (out**2).sum(),
                "grad_dot_v": (gradient * v).sum(),
                "grad_sq": (gradient**2).sum(),
            }
            for name, value in case["checks"].items():
                assert ours[name] == pytest.approx(value, **check), (key, name)
            if case["arrays"]:
                np.testing.assert_allclose(out, arrays[f"{key}/out"], **tolerance, err_msg=key)
                np.testing.assert_allclose(
                    gradient, arrays[f"{key}/grad"], **tolerance, err_msg=key
                )


@pytest.mark.parametrize(
    "of",
    slow_unless(
        lambda of: of[1] == "gray" or of[0] in ("color", "rotate"),
        [(name, kind) for name in OPERATIONS for kind in SHAPES],
    ),
    ids="/".join,
)
@PRECISIONS
def test_an_operation_is_golden(of, precise):
    """Value and gradient: three draws for the batch, and one draw for each image."""
    name, kind = of
    cases = [c for c in DSA["cases"] if (c["op"], c["images"]) == (name, kind)]
    assert len(cases) == (5 if name in ("scale", "rotate") else 4)
    plan = ((OPERATIONS[name]._replace(channels=1),),)  # of gray, saturation is golden as well
    check_golden("augment_dsa", plan, kind, cases, dsa_parameters, precise)


@pytest.mark.parametrize(
    "case",
    slow_unless(lambda case: case["key"] in ("rgb/match", "gray/eval_scale"), IDC["cases"]),
    ids=lambda case: case["key"],
)
@PRECISIONS
def test_the_composition_of_idc_is_golden(case, precise):
    unchosen = set(ONE_OF) - {case["params"]["choice"]}
    plan = tuple(
        tuple(operation for operation in stage if operation.apply.__name__ not in unchosen)
        for stage in idc(case["strategy"])
    )
    check_golden("augment_idc", plan, case["images"], [case], idc_parameters, precise)


def test_published_strategies():
    golden = {name: text for name, text in DSA["strategies"].items() if name != "where"}
    names = {"SVHN": "svhn_cropped", "FashionMNIST": "fashion_mnist"}
    assert {names.get(n, n.lower()): s for n, s in golden.items()} == DSA_STRATEGIES
    for strategy in [
        *golden.values(),
        IDC_MATCHING,
        *IDC_EVALUATION.values(),
    ]:
        assert dsa(strategy)
        assert idc(strategy)


# --- what is drawn --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [28, 9])
def test_ranges(size):
    """Of 4000 draws: whole numbers take every allowed value, others come near both ends.

    The rarest whole number has probability 1/29, and is missed with (28/29)^4000 = 1e-61; none
    of 4000 uniform numbers comes within 1 % of an end with 0.99^4000 = 3e-18.  A side of 9 is cut
    out by a box of 5, an odd one.
    """

    @jax.jit
    def draw_all(key):
        law = lambda u: {name: o.law(u, size, size) for name, o in OPERATIONS.items()}
        return jax.vmap(law)(jax.random.uniform(key, (4000, NUMBERS)))

    drawn = draw_all(KEY)
    reach, high = {28: (4, 28), 9: (1, 8)}[size]
    whole = {
        "crop": set(range(-reach, reach + 1)),
        "cutout": set(range(high + 1)),
        "flip": {False, True},
    }
    for name, values in whole.items():
        for parameter in drawn.pop(name):
            assert set(parameter.tolist()) == values, name
    ends = {"scale": (1 / 1.2, 1.2), "rotate": (-np.radians(15), np.radians(15))}
    for name, parameters in drawn.items():
        low, high = ends.get(name, (0.0, 1.0))
        for parameter in parameters:
            assert low - 1e-6 <= parameter.min() < low + 0.01 * (high - low), name
            assert high + 1e-6 >= parameter.max() > high - 0.01 * (high - low), name


def test_parameters_of_an_operation_are_independent():
    """|correlation| of 4000 pairs has standard deviation 0.016: below 5 of them."""
    numbers = jax.random.uniform(KEY, (4000, NUMBERS))
    for name in ("color", "crop", "cutout", "scale"):
        drawn = jax.vmap(lambda u, law=OPERATIONS[name].law: law(u, 28, 28))(numbers)
        off_diagonal = np.corrcoef(np.stack(drawn)) - np.eye(len(drawn))
        assert np.abs(off_diagonal).max() < 0.08, name


def number(k):
    """An operation that makes an image k everywhere."""
    return Operation(lambda u, h, w: (), lambda x: jnp.full_like(x, k))


def numbered(plan):
    return tuple(tuple(number(k) for k in range(len(stage))) for stage in plan)


@pytest.mark.parametrize("kind", [augment.siamese, augment.per_image])
def test_each_entry_is_drawn_equally_often(kind):
    """6000 draws of 6 entries: 1000 each, standard deviation sqrt(6000 1/6 5/6) = 29, 5 of them.

    The choice is one for the batch, of whatever kind.
    """
    plan = dsa(DSA_STRATEGIES["cifar10"])
    change = kind(numbered(plan))
    keys = jax.random.split(KEY, 6000)
    chosen = jax.vmap(lambda key: change(key, jnp.zeros((3, 1, 1, 1))))(keys).reshape(6000, 3)
    assert (chosen == chosen[:, :1]).all()
    counts = np.bincount(np.asarray(chosen[:, 0], int), minlength=6)
    assert np.abs(counts - 1000).max() < 145


@pytest.mark.parametrize(("kind", "images"), [(augment.siamese, 1), (augment.per_image, 3)])
def test_all_that_is_drawn_is_independent(kind, images):
    """Choices and parameters of two stages: |correlation| of 4000 draws as above.

    An image's pixels are a place for each stage: 0 or 1 as the choice was, then its numbers.
    """

    def noted(stage, choice):
        first = stage * (1 + NUMBERS)
        return Operation(
            law=lambda u, h, w: (*u,),
            apply=lambda x, *u: x.at[first : first + 1 + NUMBERS, 0, 0].set(
                jnp.stack([choice, *u])
            ),
        )

    change = kind(tuple(tuple(noted(s, float(c)) for c in (0, 1)) for s in (0, 1)))
    x = jnp.zeros((images, 2 * (1 + NUMBERS), 1, 1))
    drawn = jax.jit(jax.vmap(lambda key: change(key, x)))(jax.random.split(KEY, 4000))
    drawn = np.asarray(drawn).reshape(4000, images, -1)
    choices = drawn[:, 0, [0, 1 + NUMBERS]]
    assert (drawn[:, :, [0, 1 + NUMBERS]] == choices[:, None]).all()
    parameters = np.delete(drawn, [0, 1 + NUMBERS], -1).reshape(4000, -1)
    off_diagonal = np.corrcoef(np.hstack([choices, parameters]).T)
    assert np.abs(off_diagonal - np.eye(len(off_diagonal))).max() < 0.08


def test_stages():
    """One stage of all for DSA; for IDC, the published order whatever that of the string."""

    def names(plan):
        return [[operation.apply.__name__ for operation in stage] for stage in plan]

    everything = "rotate_cutout_color_scale_flip_crop"
    assert names(dsa(everything)) == [everything.split("_")]
    assert names(idc(everything)) == [["flip"], ["color"], ONE_OF, ["cutout"]]
    assert names(idc("color_crop_cutout")) == [["color"], ["crop"], ["cutout"]]
    assert names(idc("contrast_brightness")) == [["brightness"], ["contrast"]]


@pytest.mark.parametrize("strategy", ["", "none", "None"])
@pytest.mark.parametrize("kind", [augment.siamese, augment.per_image])
def test_no_operation_changes_nothing(kind, strategy):
    x = jax.random.normal(KEY, (2, 5, 4, 3))
    assert (kind(dsa(strategy))(KEY, x) == x).all()
    assert (kind(idc(strategy))(KEY, x) == x).all()


@pytest.mark.parametrize("plan", [dsa, pytest.param(idc, marks=pytest.mark.slow)])
def test_siamese_is_the_same_for_any_batch(plan):
    """An image alone, in front of others, and in each place of a batch, in one program."""
    change = augment.siamese(plan(DSA_STRATEGIES["cifar10"]))
    x = jax.random.normal(KEY, (5, 12, 12, 3))

    @jax.jit
    @jax.vmap
    def changes(key):
        return change(key, x), change(key, x[:1]), change(key, jnp.stack([x[0]] * 3))

    whole, alone, repeated = changes(jax.random.split(KEY, 40))
    assert jnp.allclose(whole[:, :1], alone, atol=1e-6)
    assert jnp.allclose(repeated, alone, atol=1e-6)
    assert jnp.ptp(alone, 0).max() > 0.1  # another key, another change


def test_per_image_draws_for_each():
    """Equal images, unequal results; the same again from the same key."""
    x = jnp.broadcast_to(jax.random.normal(KEY, (1, 9, 9, 3)), (8, 9, 9, 3))

    @jax.jit
    def changes(key):
        return {name: augment.per_image(((o,),))(key, x) for name, o in OPERATIONS.items()}

    first, second = (jax.tree.map(np.asarray, changes(KEY)) for _ in range(2))
    for name, out in first.items():
        assert out.shape == x.shape
        assert np.ptp(out, 0).max() > 0.1, name
        assert (out == second[name]).all(), name


# --- derivatives, types, edges --------------------------------------------------------------------


@pytest.mark.parametrize("name", OPERATIONS)
def test_second_derivatives_are_finite(name):
    """Reverse over reverse and forward over reverse, on a constant image as well, and equal."""
    change = augment.siamese(((OPERATIONS[name],),))
    x = jnp.stack([jax.random.normal(KEY, (8, 8, 3)), jnp.zeros((8, 8, 3))])

    @jax.jit
    def products(x):
        gradient = jax.grad(lambda x: jnp.sum(jnp.sin(change(KEY, x))))
        reverse = jax.grad(lambda y: jnp.vdot(gradient(y), x))(x)
        return reverse, jax.jvp(gradient, (x,), (x,))[1]

    reverse, forward = products(x)
    assert jnp.isfinite(reverse).all()
    assert jnp.allclose(reverse, forward, atol=1e-5)


@pytest.mark.parametrize("shape", [(28, 28, 1), (7, 10, 3)])
def test_no_change_is_the_identity(shape):
    x = jax.random.normal(KEY, shape)
    unchanged = {
        "color": [0.5, 0.5, 0.5],
        "crop": [0, 0],
        "flip": [False],
        "scale": [1.0, 1.0],
        "rotate": [0.0],
    }

    @jax.jit
    def changes(x, parameters):
        return {name: OPERATIONS[name].apply(x, *given) for name, given in parameters.items()}

    for name, out in changes(x, jax.tree.map(jnp.asarray, unchanged)).items():
        np.testing.assert_allclose(out, x, atol=1e-6, err_msg=name)


def test_height_and_width_are_not_exchanged():
    """Of a 9 x 17 image: a crop by at most 1 and 2, a box of 5 x 9, columns scaled by sx."""
    ones, columns = (
        np.ones((9, 17, 1)),
        np.broadcast_to(np.arange(-8.0, 9)[None, :, None], (9, 17, 1)),
    )

    @jax.jit
    def changes(ones, columns):
        moved = operations.crop(ones, jnp.asarray(-1), jnp.asarray(2))
        cut = operations.cutout(ones, jnp.asarray(4), jnp.asarray(8))
        return moved, cut, operations.scale(columns, jnp.asarray(0.5), jnp.asarray(1.0))

    moved, cut, wide = (np.asarray(out)[..., 0] for out in changes(jnp.asarray(ones), columns))
    assert moved.sum() == 8 * 15
    assert moved[1:, :15].all()
    assert (cut == 0).sum() == 5 * 9
    assert (cut[2:7, 4:13] == 0).all()
    np.testing.assert_allclose(wide, columns[..., 0] / 2, atol=1e-5)


def test_a_quarter_turn():
    """Pixel (i, j) from the centre reads (j, -i): what is at the right comes to the top."""
    right, top = np.zeros((2, 5, 5, 1), np.float32)
    right[2, 4] = top[0, 2] = 1
    turned = jax.jit(operations.rotate)(jnp.asarray(right), jnp.asarray(jnp.pi / 2))
    np.testing.assert_allclose(turned, top, atol=1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_images_keep_their_type(dtype, x64):
    """Although what is drawn is double."""
    x = jnp.ones((2, 8, 8, 3), dtype)
    for kind in (augment.siamese, augment.per_image):
        out = jax.eval_shape(kind(dsa("_".join(OPERATIONS))), KEY, x)
        assert (out.shape, out.dtype) == (x.shape, x.dtype)


@pytest.mark.parametrize("plan", [dsa, idc])
@pytest.mark.parametrize(
    ("strategy", "words"),
    [
        ("color_crip", "unknown 'crip'.*color, crop, cutout, flip, scale, rotate"),
        ("color__crop", "unknown ''"),
        ("Color", "unknown 'Color'"),
        ("crop_color_crop", "'crop' comes twice"),
    ],
)
def test_wrong_strategies_are_refused(plan, strategy, words):
    with pytest.raises(UserError, match=words) as raised:
        plan(strategy)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("kind", [augment.siamese, augment.per_image])
def test_what_needs_colours_is_refused_for_gray_images(kind):
    """Saturation by name; `color` is published for gray images, brightness and contrast act."""
    gray = jnp.zeros((2, 8, 8, 1))
    with pytest.raises(UserError, match="saturation does nothing to images of one channel"):
        jax.eval_shape(kind(dsa("crop_saturation")), KEY, gray)
    jax.eval_shape(kind(dsa("color_crop")), KEY, gray)
