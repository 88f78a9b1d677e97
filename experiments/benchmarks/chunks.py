"""Sets of a run, and networks of an evaluation, at a time: seconds and memory by chunk.

    python -m experiments.benchmarks.chunks                                 # two cores: 8 minutes
    python -m experiments.benchmarks.chunks --batch-real 256 --ipc 1 10     # an accelerator

The defaults in `gm_jax/nn/platforms.py` are chosen from this table.  An iteration is cut to 2 outer
steps at most, an evaluation to a few epochs: they are all alike.  The programs of each number of
sets or networks take turns.
"""

import dataclasses
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, NamedTuple

import jax

from experiments import command
from gm_jax.build import build_method, build_network, microbatch_of, start_sets
from gm_jax.checks import MOST, Count
from gm_jax.config import Config, check
from gm_jax.core import loop
from gm_jax.core.batching import chunked
from gm_jax.data.images import Dataset
from gm_jax.data.loading import load
from gm_jax.evaluation.coresets import random_real
from gm_jax.evaluation.protocol import Trial, paper_protocol, test_set, train_and_test
from gm_jax.fit import check_fits
from gm_jax.nn import platforms

MODULE = "experiments.benchmarks.chunks"


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to measure."""

    dataset: str = "mnist5k"
    """Data set, as `gm-jax condense` knows it."""
    ipc: Annotated[tuple[Count, ...], command.SOME] = (1,)
    """Synthetic images of each class."""
    batch_real: Count = 32
    """Real images of each class."""
    numbers: Annotated[tuple[Count, ...], command.SOME] = (1, 4, 16)
    """Numbers of sets, and of networks."""
    epochs: Count = 5
    """Epochs of an evaluation."""
    repeats: Count = 3
    """Timed calls of each program."""


class Program(NamedTuple):
    """A compiled program.

    Attributes:
        call: one call.
        temporary: bytes of memory that it needs while it runs.
    """

    call: Callable[[], object]
    temporary: int


class Row(NamedTuple):
    """A row of the table.

    Attributes:
        kind: `sets` or `networks`.
        ipc: synthetic images of each class.
        number: of sets or networks.
        chunk: at a time.
        seconds: of each call.
        temporary: bytes of memory.
    """

    kind: str
    ipc: int
    number: int
    chunk: int
    seconds: list[float]
    temporary: int


# --- programs -------------------------------------------------------------------------------------


def sets_program(config: Config, dataset: Dataset, chunk: int) -> Program:
    """One iteration of all sets, `chunk` at a time."""
    sets = start_sets(config, dataset)
    method_of = lambda swept: build_method(config, dataset, swept)
    step = loop.compile_iteration(method_of, sets, dataset.train, chunk)
    iterations = loop.iterations(step, sets, dataset.train, until=MOST)
    return Program(lambda: next(iterations)[1:], loop.memory(step).temporary)


def networks_program(
    config: Config, dataset: Dataset, epochs: int, number: int, chunk: int
) -> Program:
    """Training and test of `number` fresh networks on random real images, `chunk` at a time."""
    network = build_network(config, dataset)
    microbatch = microbatch_of(config, config.network, dataset)
    protocol = paper_protocol(dataset)._replace(epochs=epochs, microbatch=microbatch)
    keys = jax.random.split(jax.random.key(0), number)
    arguments = (*random_real(keys[0], dataset.train, config.ipc), *test_set(dataset))

    def every(keys, *arguments):
        x, y, test_x, test_y = arguments
        trial = Trial(network, protocol, test_x, test_y)
        of_key = lambda key: train_and_test(key, trial, x, y)
        return chunked(of_key, chunk)(keys)

    compiled = platforms.compile_program(jax.jit(every).lower(keys, *arguments))
    return Program(lambda: compiled(keys, *arguments), loop.memory(compiled).temporary)


# --- measuring ------------------------------------------------------------------------------------


def measure(settings: Settings, dataset: Dataset) -> Iterator[Row]:
    """A row for every number and chunk: one at a time, some, all at once."""
    for ipc in settings.ipc:
        for number in settings.numbers:
            config = _config(settings, ipc, number)
            chunks = sorted({1, number, *(c for c in settings.numbers if c < number)})
            of_sets = [sets_program(config, dataset, c) for c in chunks]
            of_networks = [
                networks_program(config, dataset, settings.epochs, number, c) for c in chunks
            ]
            for kind, programs in (("sets", of_sets), ("networks", of_networks)):
                timings = take_turns(programs, settings.repeats)
                for chunk, program, seconds in zip(chunks, programs, timings, strict=True):
                    yield Row(kind, ipc, number, chunk, seconds, program.temporary)


def take_turns(programs: Sequence[Program], repeats: int) -> list[list[float]]:
    """Seconds of each program's calls, after one call that is not timed."""
    for program in programs:
        jax.block_until_ready(program.call())
    seconds: list[list[float]] = [[] for _ in programs]
    for _ in range(repeats):
        for program, found in zip(programs, seconds, strict=True):
            start = time.perf_counter()
            jax.block_until_ready(program.call())
            found.append(time.perf_counter() - start)
    return seconds


def _config(settings: Settings, ipc: int, number: int) -> Config:
    return Config(
        dataset=settings.dataset,
        ipc=ipc,
        batch_real=settings.batch_real,
        step_rule="fixed",
        outer_steps=min(2, ipc),
        seeds=number,
    )


# --- the command ----------------------------------------------------------------------------------


def line(row: Row) -> str:
    """A row as Markdown."""
    each = statistics.median(row.seconds) / row.number
    spread = f"{min(row.seconds) / row.number:.3g} to {max(row.seconds) / row.number:.3g}"
    return (
        f"| {row.kind} | {row.ipc} | {row.number} | {row.chunk} | {each:.3g} ({spread}) "
        f"| {row.temporary / 2**20:.0f} |"
    )


def work(settings: Settings, _: str) -> None:
    """Measures, prints the table row by row."""
    dataset = load(settings.dataset)
    for ipc in settings.ipc:
        check(_config(settings, ipc, 1))
        check_fits(_config(settings, ipc, 1), dataset)
    device = jax.local_devices()[0].device_kind
    print(f"{device}, jax {jax.__version__}, {settings}", flush=True)
    print("| what | ipc | number | at a time | seconds each (lowest to highest) | temporary MiB |")
    print("|---|---|---|---|---|---|", flush=True)
    for row in measure(settings, dataset):
        print(line(row), flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    return command.main(MODULE, __doc__, Settings, work, arguments)


if __name__ == "__main__":
    sys.exit(main())
