"""What the matrix products of the gradients of real images take by themselves, on a CPU.

    python -m experiments.benchmarks.limit

ConvNet 128 on noise.  Of the gradients of all real images in microbatches, the products that
Winograd's tiles leave are run by themselves, on arrays that stay in the cache; what is left of the
measured time are the sums over tiles, norms, activations, pooling and the first convolution.
"""

import dataclasses
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from experiments import command
from experiments.benchmarks.cases import CLASSES, REAL, SHAPES, WIDTH, Case, ShapeName, flops
from experiments.benchmarks.worker import seconds
from experiments.benchmarks.worker_gm_jax import matrix_rate, noise, prepare
from gm_jax.checks import Count
from gm_jax.errors import UserError
from gm_jax.nn import platforms
from gm_jax.nn.winograd import REACH, tiles

MODULE = "experiments.benchmarks.limit"


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to measure."""

    shape: ShapeName = "mnist"
    """Image shape: mnist (28x28x1), cifar10 (32x32x3)."""
    batch_real: Count = 64
    """Real images of each class."""
    repeats: Count = 9
    """Calls of each program, after one that is not counted; the fastest one counts."""


class Row(NamedTuple):
    """What is measured, its seconds, and its FLOPs (0: not counted).

    Those of products are as many as are computed, those of the whole as the direct sum has.
    """

    name: str
    seconds: float
    flops: float = 0.0


def products(rows: int) -> dict[str, Callable[[], list[jax.Array]]]:
    """The products of a convolution's tiles, by direction, each as `winograd` calls them.

    Args:
        rows: tiles of a microbatch.
    """
    strips = [noise(REACH, rows, WIDTH) for _ in range(REACH)]
    kernels = [noise(REACH, WIDTH, WIDTH) for _ in range(REACH)]

    def by_kernel(strips, kernels):
        return [jnp.matmul(v, u) for v, u in zip(strips, kernels)]

    def by_cotangent(strips, cotangents):
        return [jnp.matmul(jnp.swapaxes(v, 1, 2), u) for v, u in zip(strips, cotangents)]

    def call(function: Callable, second: list[jax.Array]) -> Callable:
        lowered = jax.jit(function).lower(strips, second)
        compiled = lowered.compile(platforms.compiler_options())
        return lambda: jax.block_until_ready(compiled(strips, second))

    return {
        "forward": call(by_kernel, kernels),
        "input gradient": call(by_kernel, kernels),
        "weight gradient": call(by_cotangent, strips),
    }


def measure(settings: Settings) -> list[Row]:
    """The whole, the products of each layer and direction, their sum, and the rest.

    Raises:
        UserError: this platform does not convolve by Winograd's tiles.
    """
    size = platforms.defaults().microbatch
    if platforms.defaults().convolution != "winograd" or size is None:
        raise UserError(f"{jax.default_backend()}: Winograd's tiles are measured, which a CPU uses")
    if CLASSES * settings.batch_real <= size:
        least = size // CLASSES + 1
        raise UserError(f"--batch-real {settings.batch_real}: must be at least {least}")
    parts_of_class = -(-settings.batch_real // size)

    def fastest(call: Callable) -> float:
        call()
        return min(seconds(call) for _ in range(settings.repeats))

    case = Case(REAL, settings.shape, batch_real=settings.batch_real)
    whole = fastest(prepare(case)[0])
    microbatches = CLASSES * parts_of_class
    images = -(-settings.batch_real // parts_of_class)  # of each, the last one filled up
    parts = []
    for layer, side in ((2, 16), (3, 8)):  # of both shapes
        rows = images * tiles(side, side)
        multiplied = 2 * REACH**2 * rows * WIDTH**2 * microbatches
        for direction, call in products(rows).items():
            name = f"products of convolution {layer}, {direction}"
            parts.append(Row(name, fastest(call) * microbatches, multiplied))
    total = Row("these products", sum(p.seconds for p in parts), sum(p.flops for p in parts))
    rest = Row("the rest", whole - total.seconds)
    return [Row("real gradients", whole, flops(case)), *parts, total, rest]


def work(settings: Settings, _: str) -> None:
    """Measures, prints a Markdown table."""
    rate, rows = matrix_rate(), measure(settings)
    print(f"{jax.local_devices()[0].device_kind}, jax {jax.__version__}, {SHAPES[settings.shape]}")
    print(
        f"a large product: {rate / 1e9:.0f} GFLOP/s; counted for real gradients: the direct sum's"
    )
    print("| what | s | GFLOP | share of that rate | s at that rate |\n|---|---|---|---|---|")
    for row in rows:
        shown = f"{row.flops / 1e9:.0f} | {row.flops / row.seconds / rate:.2f}"
        least = f"{row.flops / rate:.2f}"
        end = f"{shown} | {least}" if row.flops else " | | "
        print(f"| {row.name} | {row.seconds:.2f} | {end} |")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    return command.main(MODULE, __doc__, Settings, work, arguments)


if __name__ == "__main__":
    jax.config.update("jax_enable_compilation_cache", False)
    sys.exit(main())
