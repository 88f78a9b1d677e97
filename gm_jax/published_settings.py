"""Numbers of the published programs that settings are made of: steps, augmentations, statistics.

Steps are from arXiv 2208.00311 and 2006.05929, strategies from the programs that docs/recipes.md
names, statistics are those that the field uses.  Nothing here needs JAX, so that settings and
recipes do not.
"""

import numpy as np

_IPC = (1, 10, 20, 30, 40, 50)
_OUTER = (1, 10, 20, 30, 40, 50)
_INNER = (1, 50, 25, 20, 15, 10)


def paper_steps(ipc: int) -> tuple[int, int]:
    """(outer steps, inner epochs) for `ipc` images a class, as published for 1, 10, 20, .. 50.

    Linear in between, rounded; the values of 50 beyond it.

    Examples:
        >>> paper_steps(10), paper_steps(5), paper_steps(200)
        ((10, 50), (5, 23), (50, 10))
    """
    outer, inner = (round(float(np.interp(ipc, _IPC, table))) for table in (_OUTER, _INNER))
    return outer, inner


MULTI_LEVEL_TABLE = (50, 40, 30, 20, *(10,) * 6, 5)
"""The schedule of the paper's reported multi-level runs."""

OTHER_TABLE = (100, 50, 50, 50, *(10,) * 6, 5)
"""The schedule of the paper's reported runs of the other schemes."""

LIKE_MNIST = ("mnist", "mnist5k", "digits")
"""Data sets that are treated as MNIST."""


def published_as(dataset: str) -> str:
    """The name that a data set's published settings have: MNIST's for handwritten digits."""
    return "mnist" if dataset in LIKE_MNIST else dataset


DSA_STRATEGIES = {
    "mnist": "color_crop_cutout_scale_rotate",
    "svhn_cropped": "color_crop_cutout_scale_rotate",
    "fashion_mnist": "color_crop_cutout_flip_scale_rotate",
    "cifar10": "color_crop_cutout_flip_scale_rotate",
    "cifar100": "color_crop_cutout_flip_scale_rotate",
}
"""Published for `dsa`: `siamese` in matching, `per_image` in training and evaluation."""

IDC_MATCHING = "color_crop_cutout"
"""Published for `siamese(idc(...))`; of multi-formed MNIST, `color_crop`."""

IDC_TRAINING = "color_crop"
"""Published for `per_image(idc(...))` inside condensation, followed by cutmix."""

IDC_EVALUATION = {
    "mnist": "color_crop_scale_rotate",
    "svhn_cropped": "color_crop_scale_rotate",
    "fashion_mnist": "color_crop_flip_scale_rotate",
    "cifar10": "color_crop_flip_scale_rotate",
}
"""Published for `per_image(idc(...))`, followed by cutmix: but not of multi-formed MNIST.

One image a class of SVHN, not multi-formed: `color_crop_cutout_scale_rotate` without cutmix.
"""

STATISTICS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "mnist": ((0.1307,), (0.3081,)),
    "fashion_mnist": ((0.2861,), (0.3530,)),
    "svhn_cropped": ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
}
"""Mean and standard deviation a channel, of pixels in 0..1: those that the field uses."""
