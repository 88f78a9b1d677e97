"""The `.pt` files of the published PyTorch programs, in and out.  PyTorch is asked for only here.

    {"data": [[images, labels], ...], "accs_all_exps": {network: [accuracy, ...]}}

a pair a set: float32 images [n, channel, height, width], normalised, class after class, and int64
labels.  That is what main.py of VICO-UoE/DatasetCondensation writes, and what `write` does.

No such file says by which mean and standard deviation its images are normalised.  `write` keeps
the run's own, and `read` takes the data set's.  A benchmark has numbers of its own, by which it
normalises the test images: `write_dc_bench` and `write_dd_ranking` convert to those.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from gm_jax.condensed import Condensed
from gm_jax.config import Config
from gm_jax.data.archives import check_zip
from gm_jax.data.images import Dataset
from gm_jax.data.loading import name_of
from gm_jax.errors import UserError, require

_SCALAR = np._core.multiarray.scalar  # type: ignore[attr-defined]  # NumPy states no type of it

NUMBERS: list[Any] = [
    _SCALAR,
    (_SCALAR, "numpy.core.multiarray.scalar"),  # NumPy 1's name of it
    np.dtype,
    type(np.dtype(np.float64)),
    type(np.dtype(np.float32)),
]
"""What accuracies are pickled as that were computed by NumPy: numbers, and nothing else."""


def write(path: Path, condensed: Condensed, accuracies: dict[str, list[float]]) -> None:
    """All sets of a run that did not diverge.

    Args:
        path: file to write.
        condensed: the sets.
        accuracies: 0..1, by network, set after set.

    Raises:
        UserError: PyTorch is not installed.
        OSError: the file cannot be written.
    """
    _save(path, {"data": _pairs(condensed), "accs_all_exps": accuracies})


def read(path: Path, dataset: Dataset) -> Condensed:
    """The sets of a file; their classes, mean and standard deviation are the data set's.

    Raises:
        UserError: PyTorch is not installed; the file is damaged, holds other things, or does not
            fit the data set.
    """
    torch = require("torch", "torch")
    try:
        check_zip(path)
        with torch.serialization.safe_globals(NUMBERS):
            held = torch.load(path, map_location="cpu", weights_only=True)  # executes nothing
        for tensor in (part for pair in held["data"] for part in pair):
            if tensor.nbytes > tensor.untyped_storage().nbytes():
                raise ValueError("a tensor that repeats its contents")
        pairs = [(np.asarray(x.detach()), np.asarray(y.detach())) for x, y in held["data"]]
    except UserError:
        raise
    except Exception as error:  # whatever a foreign or damaged file makes its reader raise
        raise UserError(
            f"{path} cannot be read as {{'data': [[images, labels], ...]}} of tensors"
        ) from error
    if not pairs:
        raise UserError(f"{path} holds no sets")
    sets = [_checked(path, dataset, *pair) for pair in pairs]
    images = np.stack([x for x, _ in sets]) if len({x.shape for x, _ in sets}) == 1 else None
    if images is None or any(not np.array_equal(y, sets[0][1]) for _, y in sets):
        raise UserError(f"{path}: its sets have different sizes")
    ipc = len(sets[0][1]) // len(dataset.class_names)
    return Condensed(
        images=images,
        labels=sets[0][1],
        mean=np.asarray(dataset.train.mean, np.float32),
        std=np.asarray(dataset.train.std, np.float32),
        class_names=dataset.class_names,
        iterations=np.full(len(sets), Config.iterations, np.int32),
        config=Config(dataset=dataset.name, ipc=ipc, seeds=len(sets)),
    )


# --- what benchmarks read -------------------------------------------------------------------------


class Known(NamedTuple):
    """A data set as a benchmark knows it.

    Attributes:
        name: the benchmark's.
        mean: by which it normalises, of pixels in 0..1, a channel each.
        std: likewise.
    """

    name: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


_CIFAR10 = Known("CIFAR10", (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))

DC_BENCH = {
    "cifar10": _CIFAR10,
    "cifar100": Known("CIFAR100", (0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762)),
}
"""By our names; justincui03/dc_benchmark, evaluator/evaluator_utils.py (`get_dataset`) at 071901d.
"""

DD_RANKING = {"cifar10": _CIFAR10, "cifar100": _CIFAR10._replace(name="CIFAR100")}
"""By our names; NUS-HPC-AI-Lab/DD-Ranking, doc/datasets/overview.md and ddranking/utils/data.py
(`get_dataset`): CIFAR-100 is normalised by the numbers of CIFAR-10.
"""


def write_dc_bench(folder: Path, condensed: Condensed) -> None:
    """The file that DC-Bench evaluates, where it looks for it.

        FOLDER/DC/CIFAR10/IPC10/res_DC_CIFAR10_ConvNet_10ipc.pt

    FOLDER is its `distilled_results`; what is in it counts as the method `dc`, and its name says
    ConvNet whatever network the set was condensed with.  The layout is that of `write`, of which
    DC-Bench reads the *last* set only, and no accuracies.  It trains on the images as they are and
    tests on images normalised by its own mean and standard deviation: ours are converted to those.

    Source: justincui03/dc_benchmark at 071901d: data_loader/dc_data_loader.py (folders, file name,
    keys), evaluator/evaluator.py (`distilled_results`, normalisation by default).  Its
    docs/new_method.md draws the folders without CIFAR10; the loader, which counts, has it.

    Args:
        folder: an existing one.
        condensed: sets of a data set in `DC_BENCH`.

    Raises:
        UserError: PyTorch is not installed, or DC-Bench does not know the data set.
        OSError: the file cannot be written.
    """
    known = _known("DC-Bench", DC_BENCH, condensed)
    ipc = condensed.config.ipc
    place = folder / "DC" / known.name / f"IPC{ipc}"
    place.mkdir(parents=True)
    contents = {"data": _pairs(_renormalised(condensed, known)), "accs_all_exps": {}}
    _save(place / f"res_DC_{known.name}_ConvNet_{ipc}ipc.pt", contents)


def write_dd_ranking(folder: Path, condensed: Condensed) -> None:
    """The tensors that DD-Ranking is given, a folder a set that did not diverge.

        FOLDER/set0/images.pt    float32 [C * ipc, channel, height, width], class after class
        FOLDER/set0/labels.pt    int64 [C * ipc]

    They are the arguments `image_tensor` and `hard_labels` of its `compute_metrics`:

        LabelRobustScoreHard(config).compute_metrics(
            image_tensor=torch.load("images.pt"), hard_labels=torch.load("labels.pt"))

    The augmentation-robust score takes no hard labels: it assumes them class after class, as these
    are.  DD-Ranking trains on the images as they are and tests, unless `use_zca` is set, on images
    normalised by its own mean and standard deviation: ours are converted to those.

    Source: NUS-HPC-AI-Lab/DD-Ranking: doc/metrics/lrs-hard-label.md at 434a861 (shape, arguments),
    ddranking/metrics/hard_label.py at 10228f3 and aug_robust.py at 4c51420 (types, the order of
    classes), ddranking/utils/data.py at 4df3a56 (`TensorDataset`, normalisation), demo_hard.py at
    97082f6 (images.pt), doc/getting-started/quick-start.md at bf335b7 (labels.pt, for soft ones).

    Args:
        folder: an existing one.
        condensed: sets of a data set in `DD_RANKING`.

    Raises:
        UserError: PyTorch is not installed, or DD-Ranking does not know the data set.
        OSError: a file cannot be written.
    """
    known = _known("DD-Ranking", DD_RANKING, condensed)
    pairs = _pairs(_renormalised(condensed, known))
    for number, (images, labels) in zip(condensed.finished, pairs, strict=True):
        place = folder / f"set{number}"
        place.mkdir()
        _save(place / "images.pt", images)
        _save(place / "labels.pt", labels)


def _known(benchmark: str, sets: dict[str, Known], condensed: Condensed) -> Known:
    name = name_of(condensed.config.dataset)
    if name not in sets:
        raise UserError(f"{benchmark} does not evaluate {name}, but {', '.join(sets)}")
    return sets[name]


def _renormalised(condensed: Condensed, known: Known) -> Condensed:
    """The same pixels, image * std + mean, normalised by a benchmark's numbers."""
    pixels = condensed.images * condensed.std.astype(np.float64) + condensed.mean
    images = (pixels - np.array(known.mean)) / np.array(known.std)
    mean, std = (np.asarray(part, np.float32) for part in (known.mean, known.std))
    return condensed._replace(images=images.astype(np.float32), mean=mean, std=std)


# --- tensors --------------------------------------------------------------------------------------


def _pairs(condensed: Condensed) -> list[list[Any]]:
    """[images, labels] of each set that did not diverge, as tensors that share no memory."""
    torch = require("torch", "torch")
    images = condensed.images[condensed.finished]
    images = torch.from_numpy(np.array(np.moveaxis(images, -1, 2), order="C"))
    labels = torch.from_numpy(condensed.labels.astype(np.int64))
    return [[of_set.clone(), labels.clone()] for of_set in images]


def _save(path: Path, contents: Any) -> None:
    torch = require("torch", "torch")
    with path.open("wb") as file:  # PyTorch's own error, were it to open the file, says less
        torch.save(contents, file)


def _checked(
    path: Path, dataset: Dataset, images: np.ndarray, labels: np.ndarray
) -> tuple[Float[np.ndarray, "n h w channel"], Int[np.ndarray, " n"]]:
    """One set in our layout, in the order of its classes."""
    h, w, channel = dataset.image_shape
    if images.ndim != 4 or images.shape[1:] != (channel, h, w):
        raise UserError(
            f"{path} holds images of {images.shape[1:]}, {dataset.name} has {(channel, h, w)}"
        )
    if not np.issubdtype(images.dtype, np.floating) or not np.isfinite(images).all():
        raise UserError(f"{path}: images are {images.dtype}, must be finite floats")
    classes = len(dataset.class_names)
    if not np.issubdtype(labels.dtype, np.integer) or labels.shape != images.shape[:1]:
        raise UserError(f"{path}: labels are {labels.dtype} {labels.shape}")
    ipc = len(labels) // classes
    order = np.argsort(labels, kind="stable")
    if ipc == 0 or not np.array_equal(labels[order], np.repeat(np.arange(classes), ipc)):
        raise UserError(f"{path}: not the same number of images of each of {classes} classes")
    images = np.moveaxis(images[order].astype(np.float32), 1, -1)
    return images, labels[order].astype(np.int32)
