"""Pictures of condensed sets."""

from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from gm_jax.data import denormalise


def mosaic(pixels: UInt8[np.ndarray, "rows columns h w channel"]) -> UInt8[np.ndarray, "H W 3"]:
    """Images in rows and columns, 2 white pixels apart, grey ones as colour."""
    rows, columns, h, w = pixels.shape[:4]
    gap = 2
    canvas = np.full((rows * (h + gap) - gap, columns * (w + gap) - gap, 3), 255, np.uint8)
    for r in range(rows):
        for c in range(columns):
            top, left = r * (h + gap), c * (w + gap)
            canvas[top : top + h, left : left + w] = pixels[r, c]
    return canvas


def save_grid(
    path: Path,
    images: Float[np.ndarray, "n h w channel"],
    mean: Float[np.ndarray, " channel"],
    std: Float[np.ndarray, " channel"],
    class_names: tuple[str, ...],
) -> None:
    """A PNG of normalised images, class-major: a row a class, its name beside it.

    De-normalised and clipped for the picture only.
    """
    pixels = denormalise(images, mean, std)
    classes, ipc = len(class_names), len(images) // len(class_names)
    h, w = pixels.shape[1:3]
    canvas = mosaic(pixels.reshape(classes, ipc, *pixels.shape[1:]))
    inches = 0.55  # an image's height
    figure = Figure(
        figsize=(inches * ipc * w / h + 0.3 + 0.09 * max(map(len, class_names)), inches * classes),
        layout="constrained",
    )
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.imshow(canvas, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([r * (h + 2) + h / 2 for r in range(classes)], class_names)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.savefig(path, dpi=150, format="png")


def save_image(path: Path, pixels: UInt8[np.ndarray, "h w channel"]) -> None:
    """One image as a PNG, pixel for pixel; grey if it has one channel."""
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(path, format="png")
