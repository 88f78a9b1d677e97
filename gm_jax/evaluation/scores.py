"""The scores of DD-Ranking: how much of a set's accuracy is the set's own.

Soft labels and augmentation raise the accuracy of any small set, of random real images too.  The
label-robust score (LRS) and the augmentation-robust score (ARS) therefore compare a condensed set
with the whole data and with random real images:

    HLR   = real_hard - syn_hard                                 hard-label recovery
    IOR   = syn_any - rdm_any                                    improvement over random
    alpha = w IOR - (1 - w) HLR
    LRS   = (exp(alpha) - exp(-1)) / (exp(1) - exp(-1))
    beta  = gamma (syn_aug - rdm_aug) + (1 - gamma) (syn_naug - rdm_naug)
    ARS   = (exp(beta) - exp(-1)) / (exp(1) - exp(-1))

See `Accuracies` for what each of them is measured on.  Source: NUS-HPC-AI-Lab/DD-Ranking (Li et
al., 2025, arXiv 2505.13300), doc/introduction.md and ddranking/metrics/{hard_label, soft_label,
aug_robust}.py at b8b0966.  Its documentation and its code contradict each other; the documented
definitions are followed here, and each contradiction is named where it matters
(tests/golden_beyond/scores.json lists them all).

**Accuracies are fractions, 0 to 1.**  DD-Ranking's documentation says that its scores are 0 to 1,
which takes fractions, but its code feeds percent into the exponential function: 84.8, 52.1 and 31
percent come out as an LRS of -0.155 (0.245 by the definition), and an ARS can exceed 10^8.

**Every accuracy may be an array**, an entry a run; so are then the scores.  DD-Ranking scores each
of five runs and reports the mean of the scores, which is not the score of the mean accuracies:
`numpy.mean(scores(accuracies).lrs)`.

**Each accuracy should be that of the last epoch.**  DD-Ranking's code reports the best test
accuracy of any 10th epoch (20th with soft labels, and in ARS), and where it tunes the learning rate
the best of five; that is selection on the test set.  It tunes it always for the random images, for
the condensed ones only if no learning rate comes with them.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import ArrayLike, Float, Real

from gm_jax.errors import UserError

Given = Real[ArrayLike, "*runs"]
"""One number, or one a run."""

Found = float | Float[np.ndarray, "*runs"]
"""A float64 number, or one a run."""


class Accuracies(NamedTuple):
    """Test accuracies, fractions in 0..1, of networks trained on different sets.

    "Any" stands for the method's own way of training, with its own labels and its augmentation;
    whatever it is, the random images get it too.  Of a method with hard labels, `syn_any` is
    `syn_hard`.

    Attributes:
        real_hard: the whole training set, with hard labels.
        syn_hard: the condensed set, with hard labels.
        syn_any: the condensed set, in the method's own way.
        rdm_any: as many random real images of each class, in the method's own way.
        syn_aug: the condensed set, in the method's own way, with augmentation.
        rdm_aug: as many random real images, in the method's own way, with augmentation.
        syn_naug: `syn_aug` without augmentation.
        rdm_naug: `rdm_aug` without augmentation.
    """

    real_hard: Given
    syn_hard: Given
    syn_any: Given
    rdm_any: Given
    syn_aug: Given
    rdm_aug: Given
    syn_naug: Given
    rdm_naug: Given


class Scores(NamedTuple):
    """What `scores` computes.

    Attributes:
        hlr: hard-label recovery, -1..1; *lower* is better.
        ior: improvement over random, -1..1.
        alpha: their weighted difference, -1..1.
        lrs: label-robust score, 0..1.
        beta: weighted improvement with and without augmentation, -1..1.
        ars: augmentation-robust score, 0..1.
    """

    hlr: Found
    ior: Found
    alpha: Found
    lrs: Found
    beta: Found
    ars: Found


def scores(accuracies: Accuracies, w: float = 0.5, gamma: float = 0.5) -> Scores:
    """All scores.

    Args:
        accuracies: fractions.
        w: weight of IOR against HLR, 0..1.
        gamma: weight of training with augmentation against training without, 0..1.

    Raises:
        UserError: an accuracy or a weight is not in 0..1, or is no number.
    """
    of = accuracies
    hlr = hard_label_recovery(of.real_hard, of.syn_hard)
    ior = improvement_over_random(of.syn_any, of.rdm_any)
    of_labels = alpha(hlr, ior, w)
    of_augmentation = beta(of.syn_aug, of.rdm_aug, of.syn_naug, of.rdm_naug, gamma)
    return Scores(
        hlr=hlr,
        ior=ior,
        alpha=of_labels,
        lrs=label_robust_score(of_labels),
        beta=of_augmentation,
        ars=augmentation_robust_score(of_augmentation),
    )


def hard_label_recovery(real_hard: Given, syn_hard: Given) -> Found:
    """HLR = real_hard - syn_hard: what is lost against the whole data; lower is better.

    Both networks are trained with hard labels.  The documentation asks for the same training of
    both; DD-Ranking's code trains on the whole data by a fixed recipe for each data set and network
    without augmentation, or takes a number that it holds (ImageNet-1K 0.565 and Tiny ImageNet
    0.464, with ResNet-18).  Train both in the same way.

    Raises:
        UserError: an accuracy is not in 0..1.
    """
    return _fraction("real_hard", real_hard) - _fraction("syn_hard", syn_hard)


def improvement_over_random(syn_any: Given, rdm_any: Given) -> Found:
    """IOR = syn_any - rdm_any: what is gained over as many random real images.

    Both networks are trained in the method's own way, with its labels, loss and augmentation.  For
    a method with hard labels DD-Ranking's code takes one number for `syn_any` and `syn_hard`.

    Raises:
        UserError: an accuracy is not in 0..1.
    """
    return _fraction("syn_any", syn_any) - _fraction("rdm_any", rdm_any)


def alpha(hlr: Given, ior: Given, w: float = 0.5) -> Found:
    """w IOR - (1 - w) HLR.

    Raises:
        UserError: HLR or IOR is not in -1..1, or w not in 0..1.
    """
    weight = _fraction("w", w)
    return weight * _difference("ior", ior) - (1 - weight) * _difference("hlr", hlr)


def label_robust_score(alpha: Given) -> Found:
    """LRS = (exp(alpha) - exp(-1)) / (exp(1) - exp(-1)), from 0 for -1 to 1 for 1.

    A set as good as the whole data and no better than random images has alpha = 0, and scores
    (1 - 1/e) / (e - 1/e) = 1 / (1 + e):

    Examples:
        >>> print(f"{label_robust_score(0.0):.4f}")
        0.2689

    DD-Ranking's readme gives this number, its doc/introduction.md 100 % times it, and its code
    prints this number with a percent sign.

    Raises:
        UserError: alpha is not in -1..1.
    """
    return _from_0_to_1(_difference("alpha", alpha))


def beta(
    syn_aug: Given, rdm_aug: Given, syn_naug: Given, rdm_naug: Given, gamma: float = 0.5
) -> Found:
    """gamma (syn_aug - rdm_aug) + (1 - gamma) (syn_naug - rdm_naug).

    The improvement over random images with augmentation, and without.  DD-Ranking's documentation
    calls its result `with_aug_mean` a test accuracy; its code returns the mean of
    syn_aug - rdm_aug, under the name `with_aug_scores_mean`.

    Raises:
        UserError: an accuracy or gamma is not in 0..1.
    """
    weight = _fraction("gamma", gamma)
    augmented = _fraction("syn_aug", syn_aug) - _fraction("rdm_aug", rdm_aug)
    plain = _fraction("syn_naug", syn_naug) - _fraction("rdm_naug", rdm_naug)
    return weight * augmented + (1 - weight) * plain


def augmentation_robust_score(beta: Given) -> Found:
    """ARS = (exp(beta) - exp(-1)) / (exp(1) - exp(-1)), from 0 for -1 to 1 for 1.

    Raises:
        UserError: beta is not in -1..1.
    """
    return _from_0_to_1(_difference("beta", beta))


# --- the common map, and what is allowed ----------------------------------------------------------


def _from_0_to_1(value: Found) -> Found:
    return (np.exp(value) - np.exp(-1)) / (np.exp(1) - np.exp(-1))


def _fraction(name: str, value: Given) -> Found:
    return _checked(name, value, 0, "a fraction, 0 to 1 (percent divided by 100)")


def _difference(name: str, value: Given) -> Found:
    return _checked(name, value, -1, "a difference of fractions, -1 to 1")


def _checked(name: str, value: Given, least: int, words: str) -> Found:
    """`value` in double precision, if all of it is in least..1, which NaN is not."""
    values = np.asarray(value, np.float64)
    wrong = values[~((least <= values) & (values <= 1))]
    if wrong.size:
        raise UserError(f"{name} {wrong[0]:g}: must be {words}")
    return values[()]  # a number, if it is one
