"""What the matrix products of gradients take by themselves: a limit to how fast they can be.

    python -m experiments.benchmarks.limit
    python -m experiments.benchmarks.limit --network resnet18 --part "inner epoch"

Of the program that computes the gradients of all real images, that matches synthetic ones, or that
trains on these for an epoch, every convolution, input gradient and weight gradient is taken by
itself, with the sizes and as often as the program has them (a microbatch at a time), and of each
the products alone: those that Winograd's tiles leave, a product for each place of a small image,
XLA's convolution where nothing else is faster (none where a one-channel image's pixels are summed).
They run again and again on the same arrays of noise, so that these stay in the cache if they fit.
What is left of the measured time is the rest: sums over tiles, transforms of kernels, norms,
activations, pooling, shifts, copies, the dense layer, and the optimiser's step.
"""

import dataclasses
import functools
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import jax
from jax.interpreters.partial_eval import dce_jaxpr

from experiments import command
from experiments.benchmarks.cases import (
    REAL,
    SHAPES,
    Case,
    NetworkName,
    ShapeName,
    case_name,
    flops,
)
from experiments.benchmarks.worker import seconds
from experiments.benchmarks.worker_gm_jax import matrix_rate, noise, prepare
from experiments.benchmarks.worker_gm_jax import work as work_of
from gm_jax.checks import Count
from gm_jax.nn import platforms
from gm_jax.nn.convolution import Form, Padding

MODULE = "experiments.benchmarks.limit"

KINDS = {
    "gm_convolve": "convolutions",
    "gm_input_gradient": "input gradients",
    "gm_weight_gradient": "weight gradients",
}
"""This library's primitives, and what they are called in the table."""

PRODUCTS = ("dot_general", "conv_general_dilated")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to measure."""

    network: NetworkName = "convnet"
    """Network whose gradients are taken, ConvNet of width 128."""
    part: Literal["real gradients", "synthetic match + gradient", "inner epoch"] = "real gradients"
    """Gradients of real images, matching, or training on synthetic ones; the names have blanks, so
    quote them."""
    shape: ShapeName = "mnist"
    """Image shape: mnist (28x28x1), cifar10 (32x32x3)."""
    batch_real: Count = 64
    """Real images of each class, in real gradients."""
    ipc: Count = 10
    """Synthetic images of each class, in the other parts."""
    repeats: Count = 9
    """Calls of each program, after one that is not counted; the fastest one counts."""


class Convolution(NamedTuple):
    """A convolution, or the input or weight gradient of one.

    Attributes:
        primitive: of `KINDS`.
        shapes: of the two arguments and the result.
        padding: in pixels.
        form: how it is computed.
    """

    primitive: str
    shapes: tuple[tuple[int, ...], ...]
    padding: Padding
    form: Form


class Row(NamedTuple):
    """What is measured, its seconds, and its FLOPs (0: not counted).

    Those of products are as many as are computed, those of the whole as the direct sum has.
    """

    name: str
    seconds: float
    flops: float = 0.0


def equations(jaxpr: Any, names: Sequence[str], times: int = 1) -> Iterator[tuple[Any, int]]:
    """The equations of these primitives, and how often each is computed.

    `scan` is the only loop there may be: of others it can't be told how often they run.
    """
    for equation in jaxpr.eqns:
        name, params = equation.primitive.name, equation.params
        assert name not in ("while", "cond"), f"how often {name} runs can't be told"
        if name in names:
            yield equation, times
            continue
        turns = params["length"] if name == "scan" else 1
        inner = [p for p in params.values() if hasattr(p, "eqns") or hasattr(p, "jaxpr")]
        for one in inner:
            yield from equations(getattr(one, "jaxpr", one), names, times * turns)


def convolutions(function: Callable, arguments: Sequence[Any]) -> Counter[Convolution]:
    """The convolutions and gradients of a computation, and how often each is computed."""
    traced = jax.make_jaxpr(function)(*arguments).jaxpr
    needed, _ = dce_jaxpr(traced, [True] * len(traced.outvars))
    found: Counter[Convolution] = Counter()
    for equation, times in equations(needed, tuple(KINDS)):
        shapes = tuple(v.aval.shape for v in (*equation.invars, *equation.outvars))
        params = equation.params
        key = Convolution(equation.primitive.name, shapes, params["padding"], params["form"])
        found[key] += times
    return found


def row_name(one: Convolution) -> str:
    """`weight gradients at 16x16`: the pixels of the input or, where it has fewer, the output."""
    image, output, _ = operands(one)
    height, width = map(min, image[2:4], output[2:4])
    return f"{KINDS[one.primitive]} at {height}x{width}"


def operands(one: Convolution) -> Iterator[tuple[int, ...]]:
    """The shapes of the image, the output and the kernel: two are arguments, one is the result."""
    places = {
        "gm_convolve": (0, 2, 1),
        "gm_input_gradient": (2, 0, 1),
        "gm_weight_gradient": (0, 1, 2),
    }
    return (one.shapes[place] for place in places[one.primitive])


def products(one: Convolution) -> tuple[Callable[[], Any], int]:
    """A call of its products, all in one program, and their FLOPs.

    Where some products are batched, as those of Winograd's tiles are, only these count: the others
    transform kernels.
    """
    compute = getattr(one.form, one.primitive.removeprefix("gm_"))
    shapes = [jax.ShapeDtypeStruct(shape, "float32") for shape in one.shapes[:2]]
    traced = jax.make_jaxpr(functools.partial(compute, padding=one.padding))(*shapes)
    every = [f for f, times in equations(traced.jaxpr, PRODUCTS) for _ in range(times)]
    chosen = [f for f in every if _is_batched(f)] or every
    arrays = [[noise(*v.aval.shape) for v in f.invars] for f in chosen]

    def program(arrays):
        return [f.primitive.bind(*of, **f.params) for f, of in zip(chosen, arrays)]

    compiled = platforms.compile_program(jax.jit(program).lower(arrays))
    return lambda: jax.block_until_ready(compiled(arrays)), sum(map(_flops, chosen))


def _is_batched(product: Any) -> bool:
    name, numbers = product.primitive.name, product.params["dimension_numbers"]
    return name == "dot_general" and numbers[1] != ((), ())


def _flops(product: Any) -> int:
    """Two for each number of the output and each term of its sum."""
    (first, second), (out,) = (
        [v.aval.shape for v in vs] for vs in (product.invars, product.outvars)
    )
    if product.primitive.name == "dot_general":
        (contracted, _), _ = product.params["dimension_numbers"]
        terms = math.prod(first[axis] for axis in contracted)
    else:
        outputs = product.params["dimension_numbers"].rhs_spec[0]
        terms = math.prod(second) // second[outputs]
    return 2 * math.prod(out) * terms


def measure(settings: Settings) -> list[Row]:
    """The whole, the products by kind and number of pixels, their sum, and the rest."""

    def fastest(call: Callable) -> float:
        call()
        return min(seconds(call) for _ in range(settings.repeats))

    if settings.part == REAL:
        case = Case(REAL, settings.shape, batch_real=settings.batch_real, network=settings.network)
    else:
        case = Case(settings.part, settings.shape, settings.ipc, network=settings.network)
    whole = Row(case_name(case), fastest(prepare(case)[0]), flops(case))
    parts: dict[str, Row] = {}
    for one, times in convolutions(*work_of(case)).items():
        name, (call, multiplied) = row_name(one), products(one)
        before = parts.get(name, Row(name, 0.0))
        taken = before.seconds + times * fastest(call)
        parts[name] = Row(name, taken, before.flops + times * multiplied)
    rows = list(parts.values())
    total = Row("these products", sum(r.seconds for r in rows), sum(r.flops for r in rows))
    return [whole, *rows, total, Row("the rest", whole.seconds - total.seconds)]


def work(settings: Settings, _: str) -> None:
    """Measures, prints a Markdown table."""
    rate, rows = matrix_rate(), measure(settings)
    print(f"{jax.local_devices()[0].device_kind}, jax {jax.__version__}, {SHAPES[settings.shape]}")
    print(f"a large product: {rate / 1e9:.0f} GFLOP/s; counted for the whole: the direct sum's")
    print("| what | s | GFLOP | share of that rate | s at that rate |\n|---|---|---|---|---|")
    for row in rows:
        shown = f"{row.flops / 1e9:.3g} | {row.flops / row.seconds / rate:.2f}"
        least = f"{row.flops / rate:.3g}"
        end = f"{shown} | {least}" if row.flops else " | | "
        print(f"| {row.name} | {row.seconds:.3g} | {end} |")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    return command.main(MODULE, __doc__, Settings, work, arguments)


if __name__ == "__main__":
    jax.config.update("jax_enable_compilation_cache", False)
    sys.exit(main())
