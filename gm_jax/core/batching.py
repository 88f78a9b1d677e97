"""One function over many inputs of the same shape, some at a time."""

from collections.abc import Callable

import jax


def chunked(f: Callable, chunk: int | None) -> Callable:
    """`f` of one input to `f` of many: every argument and result gets a leading axis.

    Args:
        f: any function of arrays and pytrees of them.
        chunk: inputs at a time: 1 is one after another (`lax.map`), `None` all at once (`vmap`).
            More at a time is more memory, and rounding may differ, but no result does.
    """

    def apply(*arguments):
        size = len(jax.tree.leaves(arguments)[0])
        if size == 1:  # batching a whole program by one takes seconds, and gains nothing
            return jax.tree.map(lambda r: r[None], f(*jax.tree.map(lambda a: a[0], arguments)))
        if chunk is None or chunk >= size:
            return jax.vmap(f)(*arguments)
        batch = None if chunk == 1 else chunk
        return jax.lax.map(lambda a: f(*a), arguments, batch_size=batch)

    return apply
