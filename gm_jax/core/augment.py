"""Augmentation: random changes of batches of images, of DSA and of IDC.

A *plan* says which operations follow each other; `siamese` and `per_image` make it a function
`(key, images) -> images`:

    augment = siamese(dsa("color_crop_cutout_flip_scale_rotate"))      # of a class, for matching
    real, synthetic = augment(key, real), augment(key, synthetic)      # both the same change
"""

from collections.abc import Callable

import jax
from jaxtyping import Array, Float, Key

from gm_jax.core.operations import NUMBERS, OPERATIONS, Operation, whole
from gm_jax.data.images import Batch
from gm_jax.errors import UserError

Augment = Callable[[Key[Array, ""], Float[Array, "n h w channel"]], Float[Array, "n h w channel"]]
"""`(key, images) -> images`, the same change for the same key."""

TrainingAugment = Callable[[Key[Array, ""], Batch], Batch]
"""`(key, batch) -> batch`, a random change of what a network trains on, labels included."""

# --- strategies -----------------------------------------------------------------------------------

Plan = tuple[tuple[Operation, ...], ...]
"""Stages that follow each other; of each, one operation is drawn, every one with equal chance."""


def strategy_names(strategy: str) -> tuple[str, ...]:
    """The operations that a published strategy names.

    Examples:
        >>> strategy_names("color_crop_cutout")
        ('color', 'crop', 'cutout')

    Args:
        strategy: names joined by `_`, each once; "" or "none" names no operation.

    Raises:
        UserError: a name is unknown, or comes twice.
    """
    names = () if strategy.lower() in ("", "none") else tuple(strategy.split("_"))
    for place, name in enumerate(names):
        if name not in OPERATIONS:
            allowed = ", ".join(OPERATIONS)
            raise UserError(f"strategy {strategy!r}: unknown {name!r}; it may name {allowed}")
        if name in names[:place]:
            raise UserError(f"strategy {strategy!r}: {name!r} comes twice; name it once")
    return names


def dsa(strategy: str) -> Plan:
    """One operation of the strategy a call, each with equal chance (arXiv 2102.08259).

    Raises:
        UserError: as `strategy_names`.
    """
    return _plan([strategy_names(strategy)])


def idc(strategy: str) -> Plan:
    """Flip, colour, one of crop, scale and rotate, then cutout, if named (arXiv 2205.14959).

    Raises:
        UserError: as `strategy_names`.
    """
    names = strategy_names(strategy)
    stages = "flip", "color", "brightness", "saturation", "contrast", "crop scale rotate", "cutout"
    return _plan([tuple(n for n in stage.split() if n in names) for stage in stages])


def _plan(stages: list[tuple[str, ...]]) -> Plan:
    return tuple(tuple(OPERATIONS[name] for name in stage) for stage in stages if stage)


# --- of a batch -----------------------------------------------------------------------------------


def siamese(plan: Plan) -> Augment:
    """The same operations with the same parameters for all images of a call.

    What is drawn depends on the key and the size of the images, not on how many there are: batches
    that are given one key are changed alike.

    A choice under `vmap` computes every operation of a stage: give classes a key each by `lax.map`
    (`batching.chunked` with chunk 1).

    Raises:
        UserError: from the call, where the plan has `saturation` and the images one channel.
            `color` is allowed, since brightness and contrast are not the identity there.
    """

    def shared(operation, u, x):
        parameters = operation.law(u[0], *x.shape[1:3])
        return jax.vmap(lambda image: operation.apply(image, *parameters))(x)

    return _augment(plan, shared, lambda x: 1)


def per_image(plan: Plan) -> Augment:
    """The same operations for all images of a call, with parameters that each draws for itself.

    What is drawn depends on the number of images too.

    Raises:
        UserError: as `siamese`.
    """

    def each(operation, u, x):
        parameters = jax.vmap(lambda u: operation.law(u, *x.shape[1:3]))(u)
        return jax.vmap(operation.apply)(x, *parameters)

    return _augment(plan, each, len)


def _augment(plan: Plan, of_batch: Callable, draws: Callable[[Array], int]) -> Augment:
    """Stage after stage, `of_batch(operation, u [draws(x), NUMBERS], x)` of the one that is chosen.

    All numbers of a call are drawn at once: a generator for each parameter takes long to compile
    (docs/performance_notes.md).
    """

    def branch(operation):
        return lambda u, x: of_batch(operation, u, x).astype(x.dtype)

    def augment(key, x):
        for operation in (operation for stage in plan for operation in stage):
            if x.shape[-1] < operation.channels:
                name = operation.apply.__name__
                raise UserError(f"{name} does nothing to images of one channel: leave it out")
        drawn = jax.random.uniform(key, (len(plan), 1 + draws(x) * NUMBERS))
        for of_stage, stage in zip(drawn, plan):
            choice = whole(of_stage[0], 0, len(stage))
            u = of_stage[1:].reshape(-1, NUMBERS)
            x = jax.lax.switch(choice, [branch(operation) for operation in stage], u, x)
        return x

    return augment


def for_training(augment: Augment) -> TrainingAugment:
    """The change of images as one of batches, which leaves the labels as they are."""
    return lambda key, batch: batch._replace(x=augment(key, batch.x))
