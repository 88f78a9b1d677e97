"""The command line: the only place that parses, prints, and shows progress.

Exit status 0 only if the work was done; 2 with one line on standard error for a user's mistake.
"""

import contextlib
import dataclasses
import functools
import io
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import tyro
from tqdm import tqdm

from gm_jax import artefacts, platforms, plots, pt_file
from gm_jax.condense import IterationInfo, Memory
from gm_jax.config import (
    MOST,
    SWEPT,
    Config,
    Rates,
    build_network,
    check,
    check_with,
    chosen,
    sets,
    with_network,
)
from gm_jax.coresets import random_real
from gm_jax.data import Dataset, denormalise
from gm_jax.datasets import load, located
from gm_jax.errors import UserError
from gm_jax.evaluate import (
    Protocol,
    evaluate_sets,
    paper_protocol,
    summarise,
    test_set,
)
from gm_jax.synthetic import Synthetic, condense_dataset

RunFolder = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]


@dataclasses.dataclass(frozen=True)
class Condense:
    """Condense a data set into a run folder."""

    config: Annotated[Config, tyro.conf.arg(name="")]
    out: Path
    """Run folder to write: config.json, metrics.jsonl, synthetic.npz, grid.png."""
    replace: bool = False
    """Replace the finished run that the folder holds; its files go at the start."""


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Train fresh networks on a run's images, and on as many random real ones; print accuracies.

    Writes evaluation.json into the run folder, in place of an earlier one; for a .pt file,
    FILE.evaluation.json beside it.
    """

    run: RunFolder
    """Run folder that condense wrote, or a .pt file of the published PyTorch programs."""
    dataset: str | None = None
    """Data set of a .pt file, which does not name it."""
    networks: tuple[str, ...] = ()
    """Architectures to train, as condense knows them; of ConvNet also variants such as
    convnet:width=64,norm=batch. Default: the run's own."""
    count: int = 20
    """Fresh networks a set."""
    epochs: int | None = None
    """Epochs of training. Default: the paper's, 1000 with augmentation on MNIST, else 300."""
    seed: int = 0
    """Seed of the networks and of the random real images."""
    chunk: int | None = None
    """Networks at a time, for speed and memory alone; 0 is all at once. Default: 1 on a CPU, 20
    elsewhere."""


@dataclasses.dataclass(frozen=True)
class Show:
    """Draw a run's images, a row a class, into a PNG."""

    run: RunFolder
    """Run folder that condense wrote."""
    out: Path | None = None
    """PNG to write. Default: grid.png in the run folder."""
    set: int = 0
    """Which of the run's sets, from 0."""


@dataclasses.dataclass(frozen=True)
class Export:
    """Write a run's images for other programs.

    As PNGs, OUT/SET/CLASS/NUMBER.png, and OUT/images.npz of uint8 `images` [sets, n, height, width,
    channel] and int32 `labels` [n]; or as the .pt file of the published PyTorch programs, exactly
    as they were learned.
    """

    run: RunFolder
    """Run folder that condense wrote."""
    out: Path
    """Folder to make, which must not exist or be empty; with --to pt, file to write."""
    to: str = "png"
    """Pictures and pixels (png), or the layout of the PyTorch programs (pt), which needs torch."""


Command = (
    Annotated[Condense, tyro.conf.subcommand("condense")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Show, tyro.conf.subcommand("show")]
    | Annotated[Export, tyro.conf.subcommand("export")]
)


# --- the commands ---------------------------------------------------------------------------------


def condense(command: Condense) -> None:
    """Checks everything that can be checked, then makes the folder, then works."""
    config = dataclasses.replace(command.config, dataset=located(command.config.dataset))
    check(config)
    dataset = load(config.dataset, config.image_size, _say)
    check_with(config, dataset)
    artefacts.create(command.out, config, command.replace)
    try:
        with progress(config.iterations, "iteration") as bar:
            log = functools.partial(_log, command.out, config, bar, time.perf_counter())
            synthetic = condense_dataset(config, dataset, log, _print_memory)
    except UserError:
        artefacts.discard(command.out)
        raise
    artefacts.write_synthetic(command.out, synthetic)
    _draw(command.out / "grid.png", synthetic, 0)
    print(f"condensed {config.dataset} to {config.ipc} images a class: {command.out}")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _print_memory(memory: Memory) -> None:
    data, temporary = (size / 2**20 for size in memory)
    parts = f"data set and images {data:.0f}, at work {temporary:.0f}"
    print(f"memory: {data + temporary:.0f} MiB ({parts})", file=sys.stderr)


def _log(
    folder: Path, config: Config, bar: tqdm, started: float, number: int, info: IterationInfo
) -> None:
    """One iteration's lines in metrics.jsonl, one a seed, and a step of the bar."""
    means = jax.tree.map(lambda part: part.mean(-1), info.match)
    rows = [
        {
            "iteration": number,
            "seed": seed,
            **_swept(config, rates),
            "loss": float(means.loss[at]),
            "intra": float(means.intra[at]),
            "inter": float(means.inter[at]),
            "inner_epochs": info.inner_epochs[at].tolist(),
            "rose": info.rose[at].tolist(),
            "seconds": round(time.perf_counter() - started, 3),
        }
        for at, (seed, rates) in enumerate(sets(config))
    ]
    if not np.isfinite(means.loss).all():
        raise UserError(
            f"the loss is not finite at iteration {number}: "
            f"try a smaller --image-lr than {max(r.image_lr for _, r in sets(config)):g} "
            f"or --network-lr than {max(config.network_lr):g}"
        )
    artefacts.append_metrics(folder, rows)
    bar.set_postfix(loss=f"{means.loss.mean():.4g}", refresh=False)
    bar.update()


def _swept(config: Config, rates: Rates) -> dict[str, float]:
    """Those of a set's numbers that have several values in this run."""
    return {name: getattr(rates, name) for name in SWEPT if len(getattr(config, name) or ()) > 1}


def evaluate(command: Evaluate) -> None:
    """Trains, prints a table, writes evaluation.json."""
    _check_evaluate(command)
    synthetic, results_path = _read_sets(command)
    config = synthetic.config
    variants = {name: with_network(config, name) for name in command.networks}
    variants = variants or {config.network: config}
    dataset = load(config.dataset, config.image_size, _say)
    _check_same(command.run, synthetic, dataset)
    for variant in variants.values():
        check_with(variant, dataset)
    here = platforms.here()
    protocol = paper_protocol(dataset, chosen(config.microbatch, here.microbatch))
    if command.epochs is not None:
        protocol = protocol._replace(epochs=command.epochs)
    chunk = chosen(command.chunk, here.network_chunk)
    random_key, networks_key = jax.random.split(jax.random.key(command.seed))
    trained_on = _with_random_real(random_key, synthetic, dataset)
    test, results = test_set(dataset), {}
    with progress(len(trained_on[0]) * command.count * len(variants), "network") as bar:
        for name, variant in variants.items():
            network = build_network(variant, dataset)
            accuracies = evaluate_sets(
                networks_key, network, protocol, trained_on, test, command.count, chunk, bar.update
            )
            results[name] = _by_kind(config, accuracies)
            results[name]["protocol"] = _describe_protocol(protocol)
    ran = {"count": command.count, "seed": command.seed}
    ran["versions"] = artefacts.described(config)["versions"]
    artefacts.write_json(results_path, results | {"ran": ran})
    _print_accuracies(results, protocol)


def _read_sets(command: Evaluate) -> tuple[Synthetic, Path]:
    """What is evaluated, and where the results go."""
    if command.run.suffix == ".pt" and command.run.is_file():
        if command.dataset is None:
            raise UserError(f"{command.run} does not say of which data set it is: add --dataset")
        dataset = load(located(command.dataset), log=_say)
        beside = command.run.with_name(command.run.name + ".evaluation.json")
        return pt_file.read(command.run, dataset), beside
    if command.dataset is not None:
        raise UserError(f"--dataset is for .pt files; {command.run} names its own")
    return artefacts.read_synthetic(command.run), command.run / "evaluation.json"


def _check_same(run: Path, synthetic: Synthetic, dataset: Dataset) -> None:
    """Refuses a data set that is no longer what the images were condensed from."""
    for what, held, found in (
        ("images of", synthetic.images.shape[2:], dataset.image_shape),
        ("classes", synthetic.class_names, dataset.class_names),
        ("a mean of", synthetic.mean.tolist(), np.float32(dataset.train.mean).tolist()),
        ("a standard deviation of", synthetic.std.tolist(), np.float32(dataset.train.std).tolist()),
    ):
        if held != found:
            raise UserError(f"{run} holds {what} {held}, {dataset.name} now has {found}")


def _with_random_real(
    key: jax.Array, synthetic: Synthetic, dataset: Dataset
) -> tuple[np.ndarray, np.ndarray]:
    """The condensed sets, then a set of random real images a seed: images and labels."""
    config = synthetic.config
    keys = jax.random.split(key, config.seeds)
    real = [random_real(k, dataset.train, config.ipc) for k in keys]
    images = np.concatenate([synthetic.images, np.stack([x for x, _ in real])])
    labels = np.stack([synthetic.labels] * len(synthetic.images) + [y for _, y in real])
    return images, labels


def _by_kind(config: Config, accuracies: np.ndarray) -> dict[str, Any]:
    """Accuracies by what the networks saw: condensed sets, swept values apart; real images."""
    kinds: dict[str, list[int]] = {}
    for at, (_, rates) in enumerate(sets(config)):
        swept = "".join(f", {k} {v:g}" for k, v in _swept(config, rates).items())
        kinds.setdefault(f"condensed{swept}", []).append(at)
    kinds["random real"] = list(range(len(sets(config)), len(accuracies)))
    return {kind: _summarised(accuracies[of_kind]) for kind, of_kind in kinds.items()}


def _summarised(accuracies: np.ndarray) -> dict[str, Any]:
    """Every accuracy, 0..1, `[sets][networks]`, and their summary in percent."""
    return {"accuracies": accuracies.tolist()} | summarise(accuracies)._asdict()


def _check_evaluate(command: Evaluate) -> None:
    for flag in ("count", "epochs"):
        value = getattr(command, flag)
        if value is not None and not 1 <= value <= MOST:
            raise UserError(f"--{flag} {value}: must be 1 to {MOST}")
    if command.chunk is not None and not 0 <= command.chunk <= MOST:
        raise UserError(f"--chunk {command.chunk}: must be 0 to {MOST}")
    if not 0 <= command.seed < 2**32:
        raise UserError(f"--seed {command.seed}: must be 0 to 2**32 - 1")


def _describe_protocol(protocol: Protocol) -> dict[str, Any]:
    augment = None if protocol.augment is None else protocol.augment.__name__
    return protocol._asdict() | {"augment": augment}


def _print_accuracies(results: dict[str, Any], protocol: Protocol) -> None:
    kinds = [(name, kind) for name, result in results.items() for kind in result]
    kinds = [(name, kind) for name, kind in kinds if kind != "protocol"]
    wide = 2 + max(len(kind) for _, kind in kinds)
    long = max(10, 2 + max(map(len, results)))
    print(f"{'network':{long}}{'trained on':{wide}}{'test accuracy, %':20}{'sets x networks'}")
    for name, kind in kinds:
        found = results[name][kind]
        number, count = np.shape(found["accuracies"])
        shown = f"{found['mean']:.1f} +- {found['std']:.1f}"
        print(f"{name:{long}}{kind:{wide}}{shown:20}{number} x {count}")
    print(f"{protocol.epochs} epochs; +- is one standard deviation over all networks")


def show(command: Show) -> None:
    """Writes the picture and says where."""
    synthetic = artefacts.read_synthetic(command.run)
    if not 0 <= command.set < len(synthetic.images):
        raise UserError(f"--set {command.set}: the run has sets 0 to {len(synthetic.images) - 1}")
    path = command.out or command.run / "grid.png"
    if path.name in artefacts.FILES and path.name != "grid.png":
        raise UserError(f"--out {path} would overwrite a run's file: name another")
    try:
        _draw(path, synthetic, command.set)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from error
    print(path)


def _draw(path: Path, synthetic: Synthetic, number: int) -> None:
    with artefacts.atomic(path) as draft:
        plots.save_grid(draft, synthetic, number)


def export(command: Export) -> None:
    """Writes into a new folder beside `out`, then names it so."""
    if command.to not in ("png", "pt"):
        raise UserError(f"--to {command.to!r} is unknown: choose png, pt")
    synthetic = artefacts.read_synthetic(command.run)
    out = command.out
    if command.to == "pt":
        _export_pt(command, synthetic)
        return
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f"--out {out} exists and is not an empty folder: name another")
    pixels = denormalise(synthetic.images, synthetic.mean, synthetic.std)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
        try:
            _write_export(draft, pixels, synthetic)
            draft.chmod(0o755)
            os.replace(draft, out.resolve())
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        raise UserError(f"--out {out} cannot be written: {error.strerror}") from error
    print(f"{pixels.shape[0] * pixels.shape[1]} images: {out}")


def _export_pt(command: Export, synthetic: Synthetic) -> None:
    out = command.out
    if out.exists():
        raise UserError(f"--out {out} exists: name another file")
    path = command.run / "evaluation.json"
    try:
        results = json.loads(path.read_text()) if path.exists() else {}
    except ValueError as error:
        raise UserError(f"{path} is damaged: evaluate again, or delete it") from error
    accuracies = {
        name: np.ravel(result["condensed"]["accuracies"]).tolist()
        for name, result in results.items()
        if "condensed" in result
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    with artefacts.atomic(out) as draft:
        pt_file.write(draft, synthetic, accuracies)
    print(f"{synthetic.images.shape[0]} sets: {out}")


def _write_export(folder: Path, pixels: np.ndarray, synthetic: Synthetic) -> None:
    np.savez_compressed(folder / "images.npz", images=pixels, labels=synthetic.labels)
    for number, of_set in enumerate(pixels):
        for index, (image, label) in enumerate(zip(of_set, synthetic.labels)):
            name = synthetic.class_names[label].replace(os.sep, "_")
            path = folder / f"set{number}" / name
            path.mkdir(parents=True, exist_ok=True)
            plots.save_image(path / f"{index % synthetic.config.ipc:03}.png", image)


# --- the terminal ---------------------------------------------------------------------------------


def progress(total: int, unit: str) -> tqdm:
    """A bar with the loss and the time left; a line every 10 seconds where there is no terminal."""
    if sys.stderr.isatty():
        return tqdm(total=total, unit=unit)
    layout = "{n_fmt}/{total_fmt} {unit}, {elapsed} gone, {remaining} left{postfix}"
    return tqdm(
        total=total, unit=unit, file=_Lines(), mininterval=10, bar_format=layout, leave=False
    )


class _Lines(io.TextIOBase):
    """Standard error, for a bar that draws itself again and again: a line a drawing."""

    def write(self, text: str) -> int:
        line = text.strip("\r\n ")
        if line:
            print(line, file=sys.stderr, flush=True)
        return len(text)


def parse(arguments: Sequence[str] | None) -> Any:
    """The command that the arguments stand for; a mistake in them as one line of `UserError`."""
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(
                Command,
                prog="gm-jax",
                description="Condense image data sets by gradient matching, in JAX.",
                args=arguments,
                config=(tyro.conf.FlagCreatePairsOff,),
            )
    except SystemExit as leave:
        if not leave.code:
            raise
        # tyro draws its complaints in a box, of lines or of ASCII: what stands in it is one line
        box = r"[│╭╮╰╯─]+|^\||\|$|\+?-{3,}\+?"
        words = re.sub(box, " ", complaint.getvalue(), flags=re.MULTILINE).split()
        raise UserError(" ".join(words)) from None


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a path may hold any byte
    work = {Condense: condense, Evaluate: evaluate, Show: show, Export: export}
    try:
        command = parse(arguments)
        work[type(command)](command)
    except UserError as error:
        print(f"gm-jax: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"gm-jax: {error}", file=sys.stderr)
        return 2
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if isinstance(error, jax.errors.JaxRuntimeError) and "EXHAUSTED" not in str(error):
            raise
        print("gm-jax: out of memory: try smaller sizes or --microbatch", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("gm-jax: interrupted", file=sys.stderr)
        return 130
    return 0
