"""How many seeds, and how many networks of an evaluation, at a time: seconds and memory by chunk.

    python -m experiments.chunks                                   # a laptop: 8 minutes
    python -m experiments.chunks --batch-real 256 --ipc 1 10       # an accelerator

The defaults in `gm_jax/platforms.py` rest on this table.  An iteration is cut to 2 outer steps at
most, an evaluation to a few epochs: they are all alike.  The programs of a row's number take turns.
"""

import dataclasses
import functools
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import tyro

from gm_jax.config import MOST, Config, build_method, build_network, check, check_with, start_runs
from gm_jax.core.batching import chunked
from gm_jax.core.loop import compile_iteration
from gm_jax.data.images import Dataset
from gm_jax.data.loading import load
from gm_jax.errors import UserError
from gm_jax.evaluation.coresets import random_real
from gm_jax.evaluation.protocol import paper_protocol, test_set, train_and_test
from gm_jax.nn import platforms


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to measure."""

    dataset: str = "mnist5k"
    """Data set, as `gm-jax condense` knows it."""
    ipc: tuple[int, ...] = (1,)
    """Synthetic images a class."""
    batch_real: int = 32
    """Real images a class."""
    numbers: tuple[int, ...] = (1, 4, 16)
    """How many seeds, and how many networks."""
    epochs: int = 5
    """Epochs of an evaluation."""
    repeats: int = 3
    """Timed calls of each program."""


class Row(NamedTuple):
    """A line of the table; `chunk` at a time, `temporary` bytes at work."""

    kind: str
    ipc: int
    number: int
    chunk: int
    seconds: list[float]
    temporary: int


Program = tuple[Callable[[], object], int]
"""What is timed, and its temporary memory in bytes."""


def seeds_program(config: Config, dataset: Dataset, chunk: int) -> Program:
    """One iteration of all seeds."""
    runs = start_runs(config, dataset)
    step = compile_iteration(
        lambda rates: build_method(config, dataset, rates), runs, dataset.train, chunk
    )
    keys, rates, state = runs

    def call():
        nonlocal state
        state, _ = step(keys, rates, state, dataset.train)
        return state

    return call, step.memory_analysis().temp_size_in_bytes


def networks_program(
    config: Config, dataset: Dataset, epochs: int, number: int, chunk: int
) -> Program:
    """Training and test of `number` fresh networks on random real images."""
    network = build_network(config, dataset)
    protocol = paper_protocol(dataset, platforms.defaults().microbatch)._replace(epochs=epochs)
    keys = jax.random.split(jax.random.key(0), number)
    arguments = (*random_real(keys[0], dataset.train, config.ipc), *test_set(dataset))

    def every(keys, *arguments):
        of_key = lambda key: train_and_test(key, network, protocol, *arguments)
        return chunked(of_key, chunk)(keys)

    compiled = jax.jit(every).lower(keys, *arguments).compile()
    return lambda: compiled(keys, *arguments), compiled.memory_analysis().temp_size_in_bytes


def taking_turns(programs: Sequence[Program], repeats: int) -> list[list[float]]:
    """Seconds of each program's calls, one of each after another, after a call not timed."""
    for call, _ in programs:
        jax.block_until_ready(call())
    seconds: list[list[float]] = [[] for _ in programs]
    for _ in range(repeats):
        for (call, _), found in zip(programs, seconds, strict=True):
            start = time.perf_counter()
            jax.block_until_ready(call())
            found.append(time.perf_counter() - start)
    return seconds


def rows(settings: Settings, dataset: Dataset) -> Iterator[Row]:
    """Every number, by every chunk: one at a time, some, all at once."""
    for ipc in settings.ipc:
        for number in settings.numbers:
            config = _config(settings, ipc, number)
            chunks = sorted({1, number, *(c for c in settings.numbers if c < number)})
            seeds = [seeds_program(config, dataset, c) for c in chunks]
            for chunk, program, seconds in zip(
                chunks, seeds, taking_turns(seeds, settings.repeats)
            ):
                yield Row("seeds", ipc, number, chunk, seconds, program[1])
            of = [networks_program(config, dataset, settings.epochs, number, c) for c in chunks]
            for chunk, program, seconds in zip(chunks, of, taking_turns(of, settings.repeats)):
                yield Row("networks", ipc, number, chunk, seconds, program[1])


def _config(settings: Settings, ipc: int, number: int) -> Config:
    config = Config(
        dataset=settings.dataset,
        ipc=ipc,
        batch_real=settings.batch_real,
        step_rule="fixed",
        outer_steps=min(2, ipc),
        seeds=number,
    )
    check(config)
    return config


def line(row: Row) -> str:
    """A row as Markdown."""
    each = statistics.median(row.seconds) / row.number
    spread = f"{min(row.seconds) / row.number:.3g} to {max(row.seconds) / row.number:.3g}"
    return (
        f"| {row.kind} | {row.ipc} | {row.number} | {row.chunk} | {each:.3g} ({spread}) "
        f"| {row.temporary / 2**20:.0f} |"
    )


def parse(arguments: Sequence[str] | None) -> Settings:
    """The settings that the arguments stand for."""
    return tyro.cli(
        Settings, prog="python -m experiments.chunks", description=__doc__, args=arguments
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints the table line by line; returns the exit status."""
    settings = parse(arguments)
    try:
        for flag in ("ipc", "numbers"):
            for value in getattr(settings, flag):
                if not 1 <= value <= MOST:
                    raise UserError(f"--{flag} {value}: must be 1 to {MOST}")
        for flag in ("epochs", "repeats"):
            if not 1 <= getattr(settings, flag) <= MOST:
                raise UserError(f"--{flag} {getattr(settings, flag)}: must be 1 to {MOST}")
        dataset = load(settings.dataset, log=functools.partial(print, file=sys.stderr))
        for ipc in settings.ipc:
            check_with(_config(settings, ipc, 1), dataset)
        device = jax.local_devices()[0]
        print(f"{device.device_kind}, jax {jax.__version__}, {settings}", flush=True)
        print(
            "| what | ipc | number | at a time | seconds each (lowest to highest) | MiB at work |"
        )
        print("|---|---|---|---|---|---|", flush=True)
        for row in rows(settings, dataset):
            print(line(row), flush=True)
    except UserError as error:
        print(f"chunks: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
