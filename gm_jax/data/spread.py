"""Classes that are spread over the devices of a mesh axis, each device holding its share of them.

For use inside `jax.shard_map`.  Where all classes are at hand, every function here is the plain one
and no collective runs.  What is differentiated through has its derivative written out, without a
collective: the transpose of a `psum` is a `psum`, which would count every device's copy of a loss.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

Tree = Any


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Spread:
    """Where the classes are.

    Attributes:
        axis: the mesh axis that they are spread over, in order and evenly; `None` where all are at
            hand.
    """

    axis: str | None = None


HERE = Spread()
"""All classes are at hand."""


# --- which classes are at hand --------------------------------------------------------------------


def labels(spread: Spread, rows: int) -> Int[Array, " rows"]:
    """The labels of the classes at hand, int32: 0, 1, ... where all are."""
    here = jnp.arange(rows, dtype=jnp.int32)
    return here if spread.axis is None else here + jax.lax.axis_index(spread.axis) * rows


def of_all(spread: Spread, rows: Shaped[Array, "C *shape"]) -> Shaped[Array, "here *shape"]:
    """The rows of the classes at hand, of an array with a row for every class."""
    if spread.axis is None:
        return rows
    here = len(rows) // jax.lax.axis_size(spread.axis)
    return jax.lax.dynamic_slice_in_dim(rows, jax.lax.axis_index(spread.axis) * here, here)


# --- collectives: never inside a derivative, nor in a loop whose length may differ ----------------


def gather(spread: Spread, rows: Shaped[Array, "here *shape"]) -> Shaped[Array, "C *shape"]:
    """The rows of all classes, of an array with those at hand."""
    return rows if spread.axis is None else jax.lax.all_gather(rows, spread.axis, tiled=True)


def add(spread: Spread, tree: Tree) -> Tree:
    """The sum of the devices' parts."""
    return tree if spread.axis is None else jax.lax.psum(tree, spread.axis)


def agreed(spread: Spread, tree: Tree) -> Tree:
    """What the first device has, for all: where devices that do the same may round differently."""
    if spread.axis is None:
        return tree
    first = jax.lax.axis_index(spread.axis) == 0

    def of_first(a):
        number = a.astype(jnp.int32) if a.dtype == bool else a
        return add(spread, jnp.where(first, number, jnp.zeros_like(number))).astype(a.dtype)

    return jax.tree.map(of_first, tree)


def choose(
    spread: Spread,
    rows: Shaped[Array | np.ndarray, "here N *shape"],
    label: Int[Array, " n"],
    index: Int[Array, " n"],
) -> Shaped[Array, "n *shape"]:
    """`rows[label, index]` of all classes; each device gives what it has."""
    if spread.axis is None:
        return jnp.asarray(rows[label, index])
    row = label - labels(spread, len(rows))[0]
    here = (row >= 0) & (row < len(rows))
    found = jnp.asarray(rows[jnp.clip(row, 0, len(rows) - 1), index])
    return add(spread, jnp.where(here.reshape(-1, *(1,) * (found.ndim - 1)), found, 0))


# --- over classes, to be differentiated -----------------------------------------------------------


def class_sum(values: Float[Array, " here"], spread: Spread = HERE) -> Float[Array, ""]:
    """sum_c of a number of each class; its derivative by those at hand is 1 each."""
    return jnp.sum(values) if spread.axis is None else _sum(spread, values)


def class_mean(signals: Tree, spread: Spread = HERE) -> Tree:
    """mean_c of per-class signals [C, ...]; of gradients: that of the class-balanced loss.

    Examples:
        >>> class_mean({"w": jnp.array([[1.0, 2.0], [3.0, 6.0]])})["w"].tolist()
        [2.0, 4.0]

    Its derivative by the signals at hand is 1 / C each.
    """
    return jax.tree.map(
        _mean if spread.axis is None else functools.partial(_mean_of, spread), signals
    )


def _mean(g: Array) -> Array:
    # As a product: on a CPU, a reduction over the first axis took a twelfth of the synthetic part.
    share = jnp.full(len(g), 1 / len(g), g.dtype)
    return jnp.tensordot(share, g, 1, precision=jax.lax.Precision.HIGHEST)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _sum(spread: Spread, values: Array) -> Array:
    return add(spread, jnp.sum(values))


@_sum.defjvp
def _sum_jvp(spread, values, tangents):
    return _sum(spread, *values), jnp.sum(*tangents)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _mean_of(spread: Spread, g: Array) -> Array:
    return add(spread, _mean(g)) / jax.lax.axis_size(spread.axis)


@_mean_of.defjvp
def _mean_of_jvp(spread, g, tangents):
    return _mean_of(spread, *g), _mean(*tangents) / jax.lax.axis_size(spread.axis)
