"""The commands and their arguments, as `--help` shows them; nothing here needs JAX."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

from gm_jax.checks import MOST, CountOrAll, between
from gm_jax.config import Config, Devices, Evaluation, Hosts
from gm_jax.recipes import RecipeName

RunFolder = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
"""The argument that names a run folder."""


@dataclasses.dataclass(frozen=True)
class Condense:
    """Condense a data set into a run folder.

    SIGTERM and Ctrl-C finish the iteration, save a checkpoint, and print the commands that resume
    the run and that end it there.
    """

    config: Annotated[Config, tyro.conf.arg(name="")]
    out: Path
    """Run folder to write: config.json, metrics.jsonl, snapshots.npz, synthetic.npz, grid.png."""
    recipe: RecipeName | None = None
    """A published method; its settings become the defaults of all others: `--recipe NAME --help`
    shows them. best is our own."""
    variant: str | None = None
    """A change of the method, MODULE:FUNCTION, a function of your own from Method to Method; the
    module is looked for in the current folder too."""
    resume: bool = False
    """Resume from the last checkpoint in the run folder, with the same settings; start where there
    is none."""
    checkpoint_every: CountOrAll | None = None
    """Iterations from one checkpoint to the next; 0 saves none but at SIGTERM and Ctrl-C. Default:
    as many as take a minute."""
    replace: bool = False
    """Replace the run that the folder holds. A finished one stays in OUT/replaced until the new one
    is finished."""
    devices: Annotated[Devices, tyro.conf.arg(name="")] = Devices()
    hosts: Annotated[Hosts, tyro.conf.arg(name="")] = Hosts()
    no_compile_cache: bool = False
    """Neither read nor write compiled programs in ~/.cache/gm_jax (or $GM_JAX_CACHE)."""


@dataclasses.dataclass(frozen=True)
class Finish:
    """End an unfinished run at its last checkpoint, as one of so many iterations.

    Writes what a finished run has; it cannot be resumed any more. config.json keeps how many
    iterations were planned.
    """

    run: RunFolder
    """Run folder that condense wrote and was stopped in."""


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Train fresh networks on a run's images, and on as many random real ones; print accuracies.

    Writes evaluation.json into the run folder, in place of an earlier one; for a single file,
    FILE.evaluation.json beside it.
    """

    run: RunFolder
    """Run folder that condense wrote, its synthetic.npz alone by whatever name, or a .pt file of
    the published PyTorch programs."""
    settings: Annotated[Evaluation, tyro.conf.arg(name="")] = Evaluation()
    dataset: str | None = None
    """Data set to evaluate on. Default: the run's own; a .pt file does not name it."""
    no_compile_cache: bool = False
    """Neither read nor write compiled programs in ~/.cache/gm_jax (or $GM_JAX_CACHE)."""


@dataclasses.dataclass(frozen=True)
class Show:
    """Draw a run's images, a row a class, into a PNG."""

    run: RunFolder
    """Run folder that condense wrote, or its synthetic.npz by whatever name."""
    out: Path | None = None
    """PNG to write. Default: grid.png in the run folder, or FILE.png for FILE.npz."""
    set: Annotated[int, between(0, MOST)] = 0
    """Which of the run's sets, from 0."""


@dataclasses.dataclass(frozen=True)
class Report:
    """Write a run's report, one HTML file that needs no network: images, loss, accuracy, settings.

    What networks reached is in it once the run is evaluated.
    """

    run: RunFolder
    """Run folder that condense wrote."""
    out: Path | None = None
    """HTML to write. Default: report.html in the run folder."""


@dataclasses.dataclass(frozen=True)
class Export:
    """Write a run's images for other programs.

    As PNGs, OUT/SET/CLASS/NUMBER.png, and OUT/images.npz of uint8 `images` [sets, n, height, width,
    channel] and int32 `labels` [n]; or as the .pt file of the published PyTorch programs, exactly
    as they were learned; or as the files that a benchmark reads, normalised as it does that.
    """

    run: RunFolder
    """Run folder that condense wrote, or its synthetic.npz by whatever name."""
    out: Path
    """Folder to make, or an empty one; with --to pt, file to write."""
    to: Literal["png", "pt", "dc-bench", "dd-ranking"] = "png"
    """Pictures and pixels (png), the layout of the PyTorch programs (pt), DC-Bench's folder
    distilled_results (dc-bench; it evaluates the last set), or DD-Ranking's images.pt and labels.pt
    of each set (dd-ranking). All but png need torch, the benchmarks cifar10 or cifar100."""


@dataclasses.dataclass(frozen=True)
class Prepare:
    """Write a data set as arrays that runs read from disk, each device only its own classes.

    OUT holds manifest.json with digests, train.npy, test_images.npy and test_labels.npy; give it to
    condense as --dataset. Of a folder of pictures one class at a time is in memory.
    """

    dataset: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATASET")]
    """Data set, as condense knows it: a name, a folder of pictures by class, or an .npz."""
    out: Path
    """Folder to make, or an empty one."""
    image_size: Annotated[int, between(4, 1024)] | None = None
    """Pixels on a side of the square that a folder's pictures are cut and resized to. Default: 32.
    """
