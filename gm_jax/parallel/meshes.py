"""Meshes of devices: sets are spread over one axis, the classes of each set over the other.

Along `SETS` nothing is exchanged, but that padding is cut off after an iteration; along `CLASSES`
signals are averaged and the gradients of images added, so that its devices are the nearest ones.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gm_jax.data.host import HostImages
from gm_jax.data.images import ClassImages
from gm_jax.data.spread import HERE, Spread

SETS, CLASSES = "sets", "classes"

Tree = Any


def make_mesh(devices: Sequence[jax.Device], class_devices: int) -> Mesh:
    """A mesh `[sets, classes]` of these devices, neighbours along the classes.

    Args:
        devices: a multiple of `class_devices`.
        class_devices: devices that share the classes of a set.
    """
    return Mesh(np.array(devices).reshape(-1, class_devices), (SETS, CLASSES))


def spread_of(mesh: Mesh | None) -> Spread:
    """Where the classes are, within a program of this mesh."""
    return HERE if mesh is None or mesh.shape[CLASSES] == 1 else Spread(CLASSES)


# --- sets -----------------------------------------------------------------------------------------


def spread_sets(mesh: Mesh | None, tree: Tree) -> Tree:
    """Arrays `[sets, ...]` on their devices; the first set again where they do not divide."""
    if mesh is None:
        return jax.tree.map(jnp.asarray, tree)
    sharding = NamedSharding(mesh, PartitionSpec(SETS))

    def put(rows):
        missing = -len(rows) % mesh.shape[SETS]
        if missing:
            rows = jnp.concatenate([rows, jnp.repeat(rows[:1], missing, 0)])
        return put_rows(rows, sharding)

    return jax.tree.map(put, tree)


def unpadded(mesh: Mesh | None, count: int) -> Callable[[Tree], Tree]:
    """`tree -> tree`: of arrays `[sets, ...]` the first `count` rows, those that are no padding.

    Where there is padding, every device gets all rows.
    """
    if mesh is None or not count % mesh.shape[SETS]:
        return lambda tree: tree
    everywhere = NamedSharding(mesh, PartitionSpec())
    take = lambda tree: jax.tree.map(lambda rows: rows[:count], tree)
    return jax.jit(take, out_shardings=everywhere)


def spread_classes(mesh: Mesh | None, data: ClassImages) -> ClassImages:
    """Real images on their devices, each class on those that work on it."""
    if mesh is None:
        return jax.tree.map(jnp.asarray, data)
    where = where_classes_lie(mesh, data)
    put = lambda part, spec: put_rows(part, NamedSharding(mesh, spec))
    return jax.tree.map(put, data._replace(spread=where.spread), where)


def put_rows(array: Any, sharding: NamedSharding) -> jax.Array:
    """An array on the devices of a sharding, of which each process reads only its own rows."""
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        bits = put_rows(jax.random.key_data(array), sharding)
        return jax.random.wrap_key_data(bits, impl=jax.random.key_impl(array))
    return jax.make_array_from_callback(array.shape, sharding, lambda part: np.asarray(array[part]))


# --- programs -------------------------------------------------------------------------------------


def where_classes_lie(mesh: Mesh, data: ClassImages) -> Any:
    """For each part of the real images, over which axis it is spread.

    Images that stay with the host stay what they are.
    """
    of_classes, everywhere = PartitionSpec(CLASSES), PartitionSpec()
    images = data.images if isinstance(data.images, HostImages) else of_classes
    return ClassImages._make([images, of_classes, everywhere, everywhere, spread_of(mesh)])


def over_sets(mesh: Mesh | None, program: Callable, shared: Any) -> Callable:
    """A program `(*arrays [sets, ...], data) -> arrays [sets, ...]`, each set on its devices.

    Args:
        mesh: of the devices; `None` changes nothing.
        program: of the sets of one device.
        shared: of `data`, over which axes its parts are spread.
    """
    if mesh is None:
        return program
    of_sets = PartitionSpec(SETS)

    def spread(*arguments):
        specs = (*(of_sets for _ in arguments[:-1]), shared)
        # check_vma knows neither the convolutions' own primitives nor carries that start as zeros
        return jax.shard_map(
            program, mesh=mesh, in_specs=specs, out_specs=of_sets, check_vma=False
        )(*arguments)

    return spread
