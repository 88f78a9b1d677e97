"""Recipes: the settings of published methods, by name.

    gm_jax.recipe("idc", dataset="fashion_mnist", ipc=10)
    gm-jax condense --recipe idc --dataset fashion_mnist --ipc 10 --out runs/idc

A recipe is nothing but settings; others can be given beside it.  docs/recipes.md says where every
number is from, and where a recipe differs from the published program.
"""

from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np

from gm_jax.config import Config
from gm_jax.errors import UserError
from gm_jax.published_settings import IDC_TRAINING, STATISTICS, published_as

RecipeName = Literal["dc", "paper", "dsa", "dcc", "idc", "best"]

Settings = dict[str, Any]


def recipe(name: str, dataset: str, ipc: int, factor: int | None = None) -> Config:
    """The settings of a method, for a data set and a number of images a class.

    Examples:
        >>> recipe("dsa", "fashion_mnist", ipc=10).augment
        'dsa'

    Args:
        name: one of `RecipeName`.
        dataset: a data set's name; of one at a path, `data.loading.name_of` knows it.  What has no
            published settings is treated as CIFAR-10 (but with 512 inner images), digits as MNIST.
        ipc: as in `Config`.
        factor: of multi-formation, which some settings depend on; the recipe's own by default.

    Raises:
        UserError: there is no such recipe.
    """
    if name not in RECIPES:
        raise UserError(f"--recipe {name!r} is unknown: choose {', '.join(get_args(RecipeName))}")
    given = {} if factor is None else {"factor": factor}
    settings = RECIPES[name](published_as(dataset), ipc, factor)
    return Config(dataset=dataset, ipc=ipc, **settings | given)


def _dc(dataset: str, ipc: int, factor: int | None) -> Settings:
    """Dataset condensation with gradient matching (Zhao et al., arXiv 2006.05929)."""
    return {
        "scheme": "intra",
        "distance": "cosine",
        "step_rule": "fixed",
        "network_momentum": 0.0,
    }


def _paper(dataset: str, ipc: int, factor: int | None) -> Settings:
    """Delving into effective gradient matching (Jiang et al., arXiv 2208.00311): the defaults."""
    return {}


def _dsa(dataset: str, ipc: int, factor: int | None) -> Settings:
    """Differentiable siamese augmentation (Zhao and Bilen, arXiv 2102.08259)."""
    return _dc(dataset, ipc, factor) | {"start": "real", "augment": "dsa"}


def _dcc(dataset: str, ipc: int, factor: int | None) -> Settings:
    """Contrastive signals (Lee et al., arXiv 2202.02916); with `augment="dsa"` its DSAC."""
    settings = _dc(dataset, ipc, factor) | {"scheme": "warm-up", "inter_weight": (1.0,)}
    if ipc == 1:
        settings |= {"outer_steps": 10, "inner_epochs": 5}
    return settings | {"start": "real"}


def _idc(dataset: str, ipc: int, factor: int | None) -> Settings:
    """Efficient parameterisation (Kim et al., arXiv 2205.14959); its IDC-I with `factor` 1."""
    factor = 2 if factor is None else factor
    settings: Settings = {
        "scheme": "intra",
        "distance": "l1" if dataset in ("mnist", "fashion_mnist") else "sqsum",
        "counted": "convolutions",
        "step_rule": "fixed",
        "iterations": 2000,
        "outer_steps": 100,
        "inner_epochs": 1,
        "batch_real": 64,
        "batch_synthetic": 128,
        "start": "mix" if factor > 1 else "real",
        "factor": factor,
        "clamp": True,
        "augment": "idc",
        "inner_strategy": IDC_TRAINING,
        "cutmix": 0.5,
        "inner_data": "real",
        "inner_images": 2048 if dataset in ("cifar10", "cifar100") else 512,
        "batch_train": 64,
        "image_lr": (_idc_image_lr(dataset, ipc),),
        "network_momentum": 0.9,
        "network_weight_decay": 5e-4,
    }
    if dataset == "mnist" and factor > 1:
        settings |= {"strategy": "color_crop", "cutmix": 0.0}
    return settings


def _idc_image_lr(dataset: str, ipc: int) -> float:
    """IDC's learning rate, of pixels in 0..1, for our normalised ones: lr / std^2.

    With x = (pixel - mean) / std, a step of lr dL/dpixel moves x by (lr / std^2) dL/dx.  The std is
    CIFAR-10's for data sets that have none of their own here.
    """
    known = {"mnist": 1e-4, "fashion_mnist": 1e-4 * (28 / 32) ** 2}
    _, std = STATISTICS.get(dataset, STATISTICS["cifar10"])
    return float(known.get(dataset, 5e-3) * ipc / 10 / np.mean(std) ** 2)


def _best(dataset: str, ipc: int, factor: int | None) -> Settings:
    """Our own: the paper's distance, multi-formation from mosaics, real images between the steps.

    Each class by itself: the paper's level across classes costs accuracy on top of these.
    docs/recipes.md has what was measured.
    """
    return {
        "scheme": "intra",
        "step_rule": "fixed",
        "outer_steps": 10,
        "inner_epochs": 1,
        "batch_real": 64,
        "start": "real" if factor == 1 else "mix",
        "factor": 2,
        "inner_data": "real",
        "inner_images": 512,
        "batch_train": 64,
    }


RECIPES: dict[str, Callable[[str, int, int | None], Settings]] = {
    "dc": _dc,
    "paper": _paper,
    "dsa": _dsa,
    "dcc": _dcc,
    "idc": _idc,
    "best": _best,
}
"""`(data set, ipc, factor) -> settings` by name; the data set as it is published."""
