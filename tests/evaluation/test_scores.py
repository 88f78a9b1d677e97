"""DD-Ranking's scores: the golden numbers, and cases worked by hand."""

import json
import math

import jax.numpy as jnp
import numpy as np
import pytest
from golden_files import BEYOND

from gm_jax.errors import UserError
from gm_jax.evaluation import scores
from gm_jax.evaluation.scores import Accuracies, Scores

SETS = json.loads((BEYOND / "scores.json").read_text())["sets"]
WEIGHTS = {"w_0.5_gamma_0.5": (0.5, 0.5), "w_0.3_gamma_0.8": (0.3, 0.8)}
TYPICAL = Accuracies(**SETS[0]["accuracies"])


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("case", SETS, ids=lambda case: case["name"])
def test_the_golden_numbers(case, weights):
    w, gamma = WEIGHTS[weights]
    found = scores.scores(Accuracies(**case["accuracies"]), w, gamma)
    expected = {name.lower(): value for name, value in case[weights].items()}
    assert found._asdict() == pytest.approx(expected, rel=0, abs=1e-15)


def test_the_default_weights_are_a_half():
    assert scores.scores(TYPICAL) == scores.scores(TYPICAL, 0.5, 0.5)


def test_by_hand():
    """HLR = 0.8 - 0.5 = 0.3 and IOR = 0.6 - 0.2 = 0.4; alpha = 0.25 * 0.4 - 0.75 * 0.3 = -0.125.
    beta = 0.75 * (0.6 - 0.2) + 0.25 * (0.5 - 0.1) = 0.4.
    """
    found = scores.scores(Accuracies(0.8, 0.5, 0.6, 0.2, 0.6, 0.2, 0.5, 0.1), w=0.25, gamma=0.75)
    assert found[:3] == pytest.approx((0.3, 0.4, -0.125))
    assert found.lrs == pytest.approx((math.exp(-0.125) - 1 / math.e) / (math.e - 1 / math.e))
    assert found.beta == pytest.approx(0.4)
    assert found.ars == pytest.approx((math.exp(0.4) - 1 / math.e) / (math.e - 1 / math.e))


def test_a_set_as_good_as_random_images_and_as_all_data_scores_the_logistic_function_at_minus_1():
    """(1 - 1/e) / (e - 1/e) = (e - 1) / (e^2 - 1) = 1 / (1 + e)."""
    found = scores.scores(Accuracies(*[0.5] * 8))
    assert (found.lrs, found.ars) == pytest.approx([1 / (1 + math.e)] * 2)


def test_the_ends_of_the_scale_are_exact():
    """w + (1 - w) rounds to 1 at any w, and so no weight leads out of -1..1."""
    best, worst = Accuracies(0, 1, 1, 0, 1, 0, 1, 0), Accuracies(1, 0, 0, 1, 0, 1, 0, 1)
    for w in np.linspace(0, 1, 101).tolist():
        assert scores.scores(best, w, w) == Scores(-1, 1, 1, 1, 1, 1)
        assert scores.scores(worst, w, w) == Scores(1, -1, -1, 0, -1, 0)


def test_runs_are_scored_one_by_one():
    """Random images in two runs: 0.2 and 0.4; what is a single number serves both."""
    runs = TYPICAL._replace(rdm_any=np.array([0.2, 0.4]))
    found = scores.scores(runs)
    each = [scores.scores(TYPICAL._replace(rdm_any=accuracy)) for accuracy in (0.2, 0.4)]
    assert found.lrs.tolist() == [one.lrs for one in each]
    assert found.ars == each[0].ars


def test_the_mean_score_exceeds_the_score_of_the_mean():
    """exp is convex: (e^0.2 + e^-0.2) / 2 = 1.02 > e^0 = 1."""
    mean = np.mean(scores.label_robust_score(np.array([0.2, -0.2])))
    assert mean > scores.label_robust_score(0.0)


def test_arrays_of_jax_are_scored_in_double_precision():
    found = scores.hard_label_recovery(jnp.array([0.5, 0.75]), 0.25)
    assert found.dtype == np.float64
    assert found.tolist() == [0.25, 0.5]


@pytest.mark.parametrize("name", Accuracies._fields)
@pytest.mark.parametrize("wrong", [84.8, 100, -0.01, 1.001, math.nan, math.inf])
def test_what_is_no_fraction_is_refused_by_name(name, wrong):
    with pytest.raises(UserError, match=f"^{name} {wrong:g}: must be a fraction, 0 to 1 "):
        scores.scores(TYPICAL._replace(**{name: wrong}))


def test_one_wrong_run_is_refused():
    with pytest.raises(UserError, match=r"^syn_any nan: must be a fraction"):
        scores.improvement_over_random(np.array([0.5, math.nan]), 0.25)


@pytest.mark.parametrize("weights", [{"w": 1.5}, {"gamma": -0.5}, {"w": math.nan}])
def test_a_weight_out_of_range_is_refused(weights):
    with pytest.raises(UserError, match=f"^{next(iter(weights))} .*: must be a fraction"):
        scores.scores(TYPICAL, **weights)


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        (lambda: scores.alpha(32.7, 0.2), "hlr 32.7"),
        (lambda: scores.alpha(0.3, -21.1), "ior -21.1"),
        (lambda: scores.label_robust_score(-5.8), "alpha -5.8"),
        (lambda: scores.augmentation_robust_score(20.0), "beta 20"),
    ],
)
def test_differences_in_percent_are_refused(wrong, name):
    """The first golden set in percent: HLR 32.7, IOR 21.1, alpha -5.8, beta 20."""
    with pytest.raises(UserError, match=f"^{name}: must be a difference of fractions, -1 to 1$"):
        wrong()
