"""The images in a run's report: each set's, and one of each class along the way."""

import math
from typing import NamedTuple

import numpy as np

from gm_jax.condensed import Condensed
from gm_jax.config import list_sets, several_values
from gm_jax.data.images import denormalise
from gm_jax.errors import UserError
from gm_jax.report.pictures import Picture, strip
from gm_jax.storage import snapshots

MOST_VALUES = 8_000_000
"""Values of the pixels that are shown of all sets: some 10 MB. The first set gets half."""

MOST_SETS = 8
"""Sets whose images are shown."""

MOST_CLASSES = 20
"""Classes that are shown along the way."""


class ClassPictures(NamedTuple):
    """The images of one class: as they were learned, if that is another image, and decoded."""

    name: str
    learned: Picture | None
    images: Picture


class SetImages(NamedTuple):
    """The images of one set; `note` says what is not shown."""

    name: str
    classes: list[ClassPictures]
    note: str


class Along(NamedTuple):
    """One image of each class along the way: `rows` has a picture for each of `iterations`."""

    iterations: list[int]
    rows: list[tuple[str, list[Picture]]]
    note: str


def set_name(condensed: Condensed, number: int) -> str:
    """`Set 0 (seed 0, image_lr 0.1)`."""
    of_set = list_sets(condensed.config)[number]
    swept = several_values(condensed.config, of_set.swept)
    words = [f"seed {of_set.seed}", *(f"{name} {value:g}" for name, value in swept.items())]
    return f"Set {number} ({', '.join(words)})"


def list_images(condensed: Condensed) -> list[SetImages]:
    """The images of the sets that did not diverge, as far as they fit into a page."""
    numbers = condensed.finished[:MOST_SETS]
    shares = [MOST_VALUES // 2] + [MOST_VALUES // 2 // MOST_SETS] * MOST_SETS
    return [_set_images(condensed, number, share) for number, share in zip(numbers, shares)]


def _set_images(condensed: Condensed, number: int, values: int) -> SetImages:
    """As many classes, and as many images of each, as have so many values in all; or one."""
    classes, shape = len(condensed.class_names), condensed.images.shape[2:]
    decoded, learned = condensed.rows(number), condensed.learned_images
    learned = None if learned is None else learned[number]
    images = values // (math.prod(shape) * (1 if learned is None else 2))
    shown_classes = max(1, min(classes, images))
    shown = max(1, min(decoded.shape[1], images // shown_classes))
    pixels = lambda rows: denormalise(rows[:shown], condensed.mean, condensed.std)

    def of_class(at: int) -> ClassPictures:
        name = condensed.class_names[at]
        if learned is None:
            return ClassPictures(name, None, strip(pixels(decoded[at]), f"{name}: images"))
        own = strip(pixels(learned[at]), f"{name}: as it was learned")
        return ClassPictures(name, own, strip(pixels(decoded[at]), f"{name}: what it stands for"))

    notes = []
    if shown_classes < classes:
        notes.append(f"The first {shown_classes} of {classes} classes.")
    if shown < decoded.shape[1]:
        notes.append(f"The first {shown} of {decoded.shape[1]} images of each class.")
    rows = list(map(of_class, range(shown_classes)))
    return SetImages(set_name(condensed, number), rows, " ".join(notes))


def images_along(condensed: Condensed, found: snapshots.Snapshots | None) -> Along | None:
    """Snapshots, and the images of the end."""
    if found is None or 0 not in condensed.finished:
        return None
    end = snapshots.first_of_each(condensed)
    before = found.iterations < condensed.config.iterations  # all, unless the run was ended early
    found = snapshots.Snapshots(found.iterations[before], found.images[before])
    if found.images.shape[1:] != end.shape:
        raise UserError(f"{snapshots.NAME} holds other images than the run: delete it")
    iterations = [*found.iterations.tolist(), condensed.config.iterations]
    images = np.concatenate([found.images, end[None]])
    names = condensed.class_names[:MOST_CLASSES]

    def row(at: int, name: str) -> tuple[str, list[Picture]]:
        texts = [f"{name} after {done} iteration{'s' * (done > 1)}" for done in iterations]
        return name, [strip(image[at][None], text) for image, text in zip(images, texts)]

    rows = list(map(row, range(len(names)), names))
    all_classes = len(condensed.class_names)
    note = f"The first {len(names)} of {all_classes} classes." if len(names) < all_classes else ""
    return Along(iterations, rows, note)
