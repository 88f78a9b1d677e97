"""Seconds for one whole iteration, beside the PyTorch port: the same work, in one run.

    python -m experiments.compare                  # ipc 1 and 10: half an hour on two cores
    python -m experiments.compare --outer-steps 2  # at ipc 10 a fifth of that, nearly

Ten classes of 28x28 grey noise (speed does not depend on what the pixels show), ConvNet 128,
multi-level, cosine+l2, fixed step rule with the paper's inner epochs after each outer step.  The
port is checked against the golden vectors first.  Compiling and loading data are not in the times.
"""

import dataclasses
import functools
import statistics
import time
from collections.abc import Callable

import jax
import numpy as np
import torch
import tyro

from experiments import torch_port
from gm_jax import condense
from gm_jax.config import Config, build_method
from gm_jax.data import Dataset, by_class
from gm_jax.step_rules import paper_steps

CLASSES, SIDE = 10, 28


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to measure."""

    ipc: tuple[int, ...] = (1, 10)
    """Images a class."""
    batch_real: int = 256
    """Real images a class at each outer step."""
    outer_steps: int | None = None
    """Outer steps an iteration. Default: the paper's (1 at ipc 1, 10 at 10)."""
    repeats: int = 3
    """Repeats of each program, taking turns."""


def noise(batch_real: int) -> Dataset:
    """A set of random pixels."""
    labels = np.repeat(np.arange(CLASSES), batch_real)
    pixels = np.random.default_rng(0).integers(0, 256, (len(labels), SIDE, SIDE, 1), np.uint8)
    names = tuple(str(c) for c in range(CLASSES))
    train = by_class(pixels, labels, CLASSES)
    return Dataset("noise", names, train, pixels[:1], labels[:1].astype(np.int32))


def ours(ipc: int, batch_real: int, outer_steps: int) -> Callable[[], object]:
    """A compiled iteration of this library, ready to be called."""
    dataset = noise(batch_real)
    config = Config(ipc=ipc, step_rule="fixed", batch_real=batch_real, outer_steps=outer_steps)
    method = build_method(config, dataset)
    key = jax.random.key(0)
    state = condense.init(method, condense.noise_images(key, dataset.train, ipc))
    step = jax.jit(functools.partial(condense.iteration, method))
    compiled = step.lower(key, dataset.train, state).compile()
    return lambda: jax.block_until_ready(compiled(key, dataset.train, state))


def theirs(ipc: int, batch_real: int, outer_steps: int) -> Callable[[], object]:
    """An iteration of the port, ready to be called."""
    _, inner = paper_steps(ipc)
    real = torch.randn(CLASSES, batch_real, 1, SIDE, SIDE)

    def iteration():
        images = torch.randn(CLASSES, ipc, 1, SIDE, SIDE, requires_grad=True)
        net = torch_port.ConvNet(1, CLASSES, SIDE)
        optimiser = torch.optim.SGD([images], lr=0.1, momentum=0.5)
        torch_port.iteration(
            net,
            images,
            optimiser,
            lambda step: real,
            outer_steps,
            inner,
            torch_port.multi_level,
            torch_port.cosine_l2,
        )

    return iteration


def seconds(call: Callable[[], object]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main(settings: Settings) -> None:
    """Checks the port, measures, prints a table."""
    worst = max(torch_port.check(torch_port.GOLDEN_DIR).values())
    assert worst < 1e-9, f"the port is off the golden vectors by {worst}"
    print(f"port checked: within {worst:.0e} of the golden vectors")
    print("seconds an iteration, median (lowest to highest)")
    for ipc in settings.ipc:
        outer = settings.outer_steps or paper_steps(ipc)[0]
        programs = {
            "gm_jax": ours(ipc, settings.batch_real, outer),
            "PyTorch": theirs(ipc, settings.batch_real, outer),
        }
        times = {name: [] for name in programs}
        for _ in range(settings.repeats):
            for name, call in programs.items():
                times[name].append(seconds(call))
        medians = {name: statistics.median(taken) for name, taken in times.items()}
        for name, taken in times.items():
            spread = f"({min(taken):.2f} to {max(taken):.2f})"
            print(f"ipc {ipc:<3} {name:8} {medians[name]:8.2f} {spread}", flush=True)
        print(f"ipc {ipc:<3} ratio    {medians['PyTorch'] / medians['gm_jax']:8.2f}", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Settings))
