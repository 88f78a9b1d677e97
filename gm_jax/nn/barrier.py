"""The one border that XLA's CPU compiler does not fuse across."""

from collections.abc import Callable

import jax
from jax.experimental.xla_metadata import set_xla_metadata


def not_fused(function: Callable, static: str | None = None) -> Callable:
    """`function`, its arguments and results kept in memory: XLA fuses nothing across its border.

    Without it the CPU compiler computes a value again for each of its uses, pixel by pixel: with
    the sums of Winograd's tiles, a network's gradient is then three times slower.  And of a loop's
    constants, the call is moved before the loop as a whole.  (`lax.optimization_barrier` is removed
    before fusion.)  Where JAX's default backend is no CPU, it is `function`, jitted: what other
    compilers make of such a call has not been measured.  So what is placed on a CPU beside an
    accelerator has no borders either.

    Args:
        function: takes and returns arrays.
        static: the name of an argument that is no array.
    """
    jitted = jax.jit(function, static_argnames=static)

    def call(*arguments):
        if jax.default_backend() != "cpu":
            return jitted(*arguments)
        with set_xla_metadata(inlineable="false"):
            return jitted(*arguments)

    return call
