"""What can be swapped (`Method`), what is carried (`State`, `StepState`), what is logged.

An *iteration* is the life of one freshly initialised network; an *outer step* is one update of the
synthetic images; an *inner epoch* is one pass of network training between them.  A *set* is one
condensed data set: one seed with one value of each swept setting.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import optax
from jaxtyping import Array, Bool, Float, Int

from gm_jax.core.augment import Augment, TrainingAugment
from gm_jax.core.distances import Distance, cosine_l2
from gm_jax.core.inner_data import InnerData, synthetic
from gm_jax.core.objectives import MatchInfo
from gm_jax.core.parametrisation import Parametrisation, pixels
from gm_jax.core.schemes import Scheme
from gm_jax.core.signals import Signal, loss_gradient
from gm_jax.core.step_rules import StepRule
from gm_jax.core.training import NetworkState
from gm_jax.nn.networks import Network

Optimiser = Callable[[Any], optax.GradientTransformation]
"""`learning rate -> optax transformation`, such as `optax.adam`; the rate may be traced."""

momentum_sgd: Optimiser = functools.partial(optax.sgd, momentum=0.5)
"""The paper's optimiser of images and of networks."""


class Method(NamedTuple):
    """The equations of a run: functions and sizes.  Replace one to try another.

    A *variant* is a function `Method -> Method`.  The numbers that a run may sweep (`image_lr`,
    `network_lr`, `inter_weight`) are traced scalars there: compute with them, don't branch on them.

    Attributes:
        network: what is trained, a fresh one in every iteration.
        schemes: what is matched, taken in turn: iteration i matches by `schemes[i % len(schemes)]`.
        step_rule: how many inner epochs follow an outer step.
        outer_steps: updates of the images in an iteration.
        distance: between the signals of two groups of images.
        signal: what is matched; the loss gradient by default.
        real_signal: what it is matched to, of the real images: of the same shapes; `None` is
            `signal`.
        inter_weight: of the part of the loss across classes; `None` is the number of classes, which
            a run's settings give as a number.
        parametrisation: what is learned, and the images that it stands for; pixels by default.
        augment: `(key, x [n, h, w, channel]) -> x`, a random change of the images of a group before
            they are matched: with one key for the real and the synthetic ones; or `None`.
        inner_data: what the network trains on between outer steps: the synthetic images by default.
        inner_augment: `(key, batch) -> batch`, a random change of every batch that the network
            trains on between outer steps; or `None`.
        image_lr: learning rate of the images.
        network_lr: learning rate of the network in the inner epochs.
        image_optimiser: of the images; its state lasts for the whole run.
        network_optimiser: of the network; its state lasts for one iteration.
        batch_train: images in a batch of an inner epoch.
        batch_validation: real images whose loss the step rule looks at.
        microbatch: images at a time in means over images; `None` takes all at once.
        class_chunk: classes at a time in the signals of each; `None` takes all at once, and so does
            a microbatch that has room for all their images.
        iterations: of the whole run, for what a variant changes in its course; 0 if not known.
    """

    network: Network
    schemes: tuple[Scheme, ...]
    step_rule: StepRule
    outer_steps: int
    distance: Distance = cosine_l2
    signal: Signal = loss_gradient
    real_signal: Signal | None = None
    inter_weight: Float[Array, ""] | float | None = None
    parametrisation: Parametrisation = pixels
    augment: Augment | None = None
    inner_data: InnerData = synthetic
    inner_augment: TrainingAugment | None = None
    image_lr: Float[Array, ""] | float = 0.1
    network_lr: Float[Array, ""] | float = 0.01
    image_optimiser: Optimiser = momentum_sgd
    network_optimiser: Optimiser = momentum_sgd
    batch_train: int = 256
    batch_validation: int = 256
    microbatch: int | None = None
    class_chunk: int | None = 1
    iterations: int = 0


Variant = Callable[[Method], Method]
"""A change of the method, such as `lambda method: method._replace(distance=manhattan)`."""


def of_real(method: Method) -> Method:
    """The method whose signal is that of the real images."""
    return method if method.real_signal is None else method._replace(signal=method.real_signal)


def unchanged(method: Method) -> Method:
    """The variant that changes nothing."""
    return method


class State(NamedTuple):
    """What a set carries from one iteration to the next.

    Attributes:
        images: what is learned, float `[C, ipc, ...]`: normalised synthetic images, or what the
            parametrisation decodes to them.
        optimiser: the image optimiser's state.
        iteration: iterations done, int32 scalar.
    """

    images: Float[Array, "..."]
    optimiser: Any
    iteration: Int[Array, ""]


class StepState(NamedTuple):
    """What an iteration carries from one outer step to the next.

    Attributes:
        images: as in `State`.
        optimiser: as in `State`.
        network: the network and its optimiser's state.
    """

    images: Float[Array, "..."]
    optimiser: Any
    network: NetworkState


class IterationInfo(NamedTuple):
    """What an iteration logs: an entry for each outer step.

    Attributes:
        match: the loss and its parts, each float `[outer_steps]`.
        inner_epochs: inner epochs after the step, int32 `[outer_steps]`; the last entry is 0.
        loss_rose: whether they ended because the validation loss rose, bool `[outer_steps]`.
        finite: whether the loss, and the images after the step, are finite, bool `[outer_steps]`.
    """

    match: MatchInfo
    inner_epochs: Int[Array, "*outer_steps"]
    loss_rose: Bool[Array, "*outer_steps"]
    finite: Bool[Array, "*outer_steps"]
