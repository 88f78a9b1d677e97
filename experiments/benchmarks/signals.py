"""What each signal costs: time of an outer step, of its compilation, and its memory.

    python -m experiments.benchmarks.signals               # 28x28x1, ipc 1 and 10

An iteration of one outer step (the paper's matching, and no inner epoch), on noise, with each
signal of `experiments.signal_variants`.  Ratios are to the gradient.  The programs take turns, each
in processes of its own; no compilation cache is used.
"""

import sys
from collections.abc import Sequence

from experiments import command, signal_variants
from experiments.benchmarks.levers import Settings, compare, print_head
from gm_jax.config import Config

MODULE = "experiments.benchmarks.signals"

SIGNALS = {
    "gradient": signal_variants.gradient,
    "2 steps": signal_variants.two_steps,
    "4 steps": signal_variants.four_steps,
    "Hessian x vector": signal_variants.hessian_vector,
    "Hessian x gradient": signal_variants.hessian_gradient,
    "Gauss-Newton x vector": signal_variants.gauss_newton_vector,
    "Gauss-Newton x gradient": signal_variants.gauss_newton_gradient,
    "gradient and head curvature": signal_variants.head_curvature,
    "gradient and features": signal_variants.with_features,
    "features": signal_variants.features,
}


def work(settings: Settings, _: str) -> None:
    """Measures, prints a Markdown table."""
    print_head()
    for ipc in settings.ipc:
        config = Config(ipc=ipc, outer_steps=1, batch_real=settings.batch_real)
        rows = {name: (config, variant) for name, variant in SIGNALS.items()}
        compare(ipc, rows, settings.repeats)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    return command.main(MODULE, __doc__, Settings, work, arguments)


if __name__ == "__main__":
    sys.exit(main())
