"""Pictures of condensed sets."""

import importlib.util
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from gm_jax.condensed import Condensed
from gm_jax.data.images import denormalise
from gm_jax.errors import UserError, require
from gm_jax.storage.files import atomic

MOST_PIXELS = 2**16 - 1
"""On a side of a picture: what every version of Matplotlib draws."""


def tiled(pixels: UInt8[np.ndarray, "rows columns h w channel"]) -> UInt8[np.ndarray, "H W 3"]:
    """Images in rows and columns, 2 white pixels apart, grey ones as colour."""
    rows, columns, h, w = pixels.shape[:4]
    gap = 2
    canvas = np.full((rows * (h + gap) - gap, columns * (w + gap) - gap, 3), 255, np.uint8)
    for r in range(rows):
        for c in range(columns):
            top, left = r * (h + gap), c * (w + gap)
            canvas[top : top + h, left : left + w] = pixels[r, c]
    return canvas


def save_grid(path: Path | str, condensed: Condensed, number: int = 0) -> None:
    """A PNG of one of a run's sets: a row for each class, its name beside it.

    What was learned comes first where it is images that are decoded to others.  De-normalised and
    clipped for the picture only.

    Args:
        path: PNG to write.
        condensed: the sets.
        number: which of them, from 0.

    Raises:
        UserError: matplotlib is not installed, or there is no set of that number.
    """
    if not 0 <= number < len(condensed.images):
        raise UserError(f"set {number}: there are sets 0 to {len(condensed.images) - 1}")
    require("matplotlib", "pictures")  # imported here: it takes half a second
    from matplotlib.figure import Figure

    rows = condensed.rows(number)
    if condensed.learned_images is not None:
        rows = np.concatenate([condensed.learned_images[number], rows], 1)
    pixels = denormalise(rows, condensed.mean, condensed.std)
    class_names = condensed.class_names
    classes, columns, h, w = pixels.shape[:4]
    canvas = tiled(pixels)
    inches = 0.55  # an image's height
    figure = Figure(
        figsize=(
            inches * columns * w / h + 0.3 + 0.09 * max(map(len, class_names)),
            inches * classes,
        ),
        layout="constrained",
    )
    axes = figure.subplots()
    axes.imshow(canvas, interpolation="nearest")
    axes.set_xticks([])
    labels = list(map(as_text, class_names))
    axes.set_yticks([r * (h + 2) + h / 2 for r in range(classes)], labels)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    dots = min(150, MOST_PIXELS / max(figure.get_size_inches()))
    with atomic(Path(path)) as draft:
        figure.savefig(draft, dpi=dots, format="png")


def as_text(name: str) -> str:
    """A name for Matplotlib, which else takes what stands between two `$` for mathematics."""
    return name.replace("$", r"\$")


def can_draw() -> bool:
    """Whether Matplotlib is installed, which the `pictures` extra brings."""
    return importlib.util.find_spec("matplotlib") is not None


def save_image(path: Path, pixels: UInt8[np.ndarray, "h w channel"]) -> None:
    """One image as a PNG, pixel for pixel; grey if it has one channel."""
    image = require("PIL.Image", "pictures")
    image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(path, format="png")
