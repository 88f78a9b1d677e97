"""Pictures inside a page: images and plots as `data:` addresses, with their sizes and texts."""

import base64
import io
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from gm_jax.errors import require
from gm_jax.storage.pictures import tiled

SIDE = 56
"""Pixels of the screen that a small image's side is enlarged to, about."""

ACROSS = 10
"""Images beside one another in a strip."""


class Picture(NamedTuple):
    """An image in a page.

    Attributes:
        source: its `data:` address.
        text: what it shows, for those who can't see it.
        width, height: on the screen, in CSS pixels.
    """

    source: str
    text: str
    width: int
    height: int


def strip(images: UInt8[np.ndarray, "n h w channel"], text: str) -> Picture:
    """Images side by side, `ACROSS` in a row, each enlarged by a whole number; nothing between."""
    n, h, w = images.shape[:3]
    columns = min(n, ACROSS)
    rows = -(-n // columns)
    filled = np.zeros((rows * columns, *images.shape[1:]), np.uint8)
    filled[:n] = images
    gaps = np.zeros((rows * columns, h, w, 1), np.uint8)
    gaps[n:] = 255
    colours, gaps = (tiled(a.reshape(rows, columns, *a.shape[1:])) for a in (filled, gaps))
    pixels = np.concatenate([colours, 255 - gaps[..., :1]], -1)
    out = io.BytesIO()
    require("PIL.Image", "pictures").fromarray(pixels).save(out, format="png", optimize=True)
    scale = max(1, round(SIDE / h))
    return Picture(
        _address("image/png", out.getvalue()),
        text,
        pixels.shape[1] * scale,
        pixels.shape[0] * scale,
    )


def lines(
    x: Int[np.ndarray, " n"],
    series: dict[str, Float[np.ndarray, "sets n"]],
    labels: tuple[str, str],
    text: str,
) -> Picture:
    """A line for each name through its mean, with a band from the lowest to the highest set.

    Args:
        x: of every line.
        series: by name, a row for each set; NaN where a set has none.
        labels: of the two axes.
        text: what the picture shows.
    """
    require("matplotlib", "pictures")
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    # text as text, and names that do not change from one run to the next
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "gm_jax"}):
        figure = Figure(figsize=(7, 3), layout="constrained")
        axes = figure.subplots()
        for name, values in series.items():
            (line,) = axes.plot(x, np.nanmean(values, 0), label=name, marker=_marker(x))
            if len(values) > 1:
                low, high = np.nanmin(values, 0), np.nanmax(values, 0)
                axes.fill_between(x, low, high, alpha=0.2, color=line.get_color(), linewidth=0)
        axes.set_xlabel(labels[0])
        axes.set_ylabel(labels[1])
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[["top", "right"]].set_visible(False)
        if len(series) > 1:
            axes.legend(frameon=False)
        out = io.BytesIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    return Picture(_address("image/svg+xml", out.getvalue()), text, 672, 288)


def _marker(x: np.ndarray) -> str | None:
    return "." if len(x) <= 30 else None


def _address(kind: str, contents: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(contents).decode()}"
