"""Whether a condensation fits a TPU slice, without one: it is compiled for it, on any machine.

    pip install 'gm_jax[tpu]'
    python -m experiments.topology --topology v5e:2x4 --sets 8 --ipc 10

Compiles one iteration with the compiler that TPUs use, and prints the seconds that it took, the
memory of a device against what it has, and every collective: its kind, its place in the program,
and its bytes.  Nothing runs.  Exit status 1 if it does not fit.
"""

import dataclasses
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from experiments import command
from gm_jax.build import (
    at_a_time,
    build_method,
    device_groups,
    start_sets,
)
from gm_jax.checks import Count
from gm_jax.config import Config, Devices, check
from gm_jax.core import loop
from gm_jax.data.images import ClassImages, Dataset
from gm_jax.errors import UserError
from gm_jax.fit import check_fits
from gm_jax.nn.platforms import PLATFORMS
from gm_jax.parallel import meshes

MODULE = "experiments.topology"

HBM = {"TPU v4": 32, "TPU v5 lite": 16, "TPU v5": 95, "TPU v6 lite": 32}
"""GiB of a chip, by the kind of device: cloud.google.com/tpu/docs, the page of each version."""

KINDS = "all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute|collective-broadcast"
SHAPE = re.compile(r"([a-z]+[0-9]*)\[([0-9,]*)\]")
BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4, "f64": 8}
PLACES = ("draw", "real_signals", "synthetic_signals", "match", "pullback", "inner_loop")
"""The phases of an iteration, as `core.iteration` names them."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to compile, and for what."""

    config: Annotated[Config, tyro.conf.arg(name="")]
    topology: str = "v5e:2x4"
    """The slice: v4, v5e, v5p or v6e, and its shape in chips."""
    sets: Count | None = None
    """Sets, one for each seed. Default: --seeds."""
    class_devices: Count = 1
    """Devices that share the classes of each set."""
    dataset_shape: str = "32x32x3"
    """Height, width and channels of the images."""
    classes: Count = 10
    """Classes of the data set."""
    images: Count = 5000
    """Real images of each class, all of which lie on the devices."""


class Collective(NamedTuple):
    """An exchange between devices, once in a program's text.

    Attributes:
        kind: as XLA calls it.
        place: the phase of the iteration.
        bytes: of its result on a device.
    """

    kind: str
    place: str
    bytes: int


def slice_devices(name: str) -> list[Any]:
    """The devices of a TPU slice; raises `UserError` if there is no such slice, or no compiler."""
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # do not look for a TPU to ask
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # no TPU is held, so none is locked
    try:
        found: Any = topologies.get_topology_desc(platform="tpu", topology_name=name).devices
    except jax.errors.JaxRuntimeError as error:
        raise UserError(f"--topology {name}: {error}") from error
    except (RuntimeError, NotImplementedError) as error:
        raise UserError(f"{error}: pip install 'gm_jax[tpu]'") from error
    if found[0].device_kind not in HBM:
        raise UserError(f"--topology {name}: choose a slice of v4, v5e, v5p or v6e")
    return found


def abstract_set(settings: Settings) -> Dataset:
    """A data set of these shapes, without pixels."""
    words = settings.dataset_shape.split("x")
    if len(words) != 3 or not all(word.isdecimal() and int(word) for word in words):
        raise UserError(f"--dataset-shape {settings.dataset_shape}: HEIGHTxWIDTHxCHANNELS")
    height, width, channel = map(int, words)
    rows = (settings.classes, settings.images, height, width, channel)
    images: Any = jax.ShapeDtypeStruct(rows, jnp.uint8)
    counts = jnp.full(settings.classes, settings.images, jnp.int32)
    train = ClassImages(images, counts, jnp.zeros(channel), jnp.ones(channel))
    names = tuple(map(str, range(settings.classes)))
    test = np.zeros((1, height, width, channel), np.uint8)
    return Dataset("noise", names, train, test, np.zeros(1, np.int32))


def compile_for(settings: Settings) -> tuple[Mesh, jax.stages.Compiled]:
    """One iteration, compiled for the slice."""
    if settings.sets is not None and settings.config.seeds != Config.seeds:
        raise UserError("--sets and --seeds: choose one")
    seeds = settings.sets or settings.config.seeds
    config = dataclasses.replace(settings.config, seeds=seeds)
    check(config)
    if settings.config.dataset != Config.dataset:
        raise UserError("--dataset has no meaning here: see --dataset-shape, --classes, --images")
    dataset, devices = abstract_set(settings), slice_devices(settings.topology)
    config = on_tpu(config, dataset)
    check_fits(config, dataset)
    shared = Devices(len(devices), class_devices=settings.class_devices)
    of_sets = device_groups(config, dataset, shared, devices)
    mesh = meshes.make_mesh(devices[: of_sets * settings.class_devices], settings.class_devices)

    def start(train):
        return start_sets(config, dataset._replace(train=train))

    put = lambda a, spec: _on(a, NamedSharding(mesh, spec), of_sets)
    sets = jax.eval_shape(start, dataset.train)
    sets = jax.tree.map(lambda a: put(a, PartitionSpec(meshes.SETS)), sets)
    where = meshes.where_classes_lie(mesh, dataset.train)
    data = jax.tree.map(put, dataset.train._replace(spread=where.spread), where)
    method_of = lambda swept: build_method(config, dataset, swept)
    chunk = at_a_time(config.set_chunk, PLATFORMS["tpu"].set_chunk)
    return mesh, loop.compile_iteration(method_of, sets, data, chunk, mesh)


def on_tpu(config: Config, dataset: Dataset) -> Config:
    """The settings with a TPU's defaults for those that depend on the platform."""
    tpu, (height, width, _) = PLATFORMS["tpu"], dataset.image_shape
    defaults: dict[str, Any] = {
        "convolution": tpu.convolution,
        "microbatch": tpu.microbatch(config.network, height, width),
        "class_chunk": tpu.class_chunk,
        "set_chunk": tpu.set_chunk,
    }
    unset: dict[str, Any] = {
        name: of or 0 for name, of in defaults.items() if getattr(config, name) is None
    }
    return dataclasses.replace(config, **unset)


def _on(array: Any, sharding: NamedSharding, multiple: int) -> jax.ShapeDtypeStruct:
    """The shape on its devices; sets are padded as in a run."""
    shape = array.shape
    if sharding.spec == PartitionSpec(meshes.SETS):
        shape = (shape[0] + -shape[0] % multiple, *shape[1:])
    return jax.ShapeDtypeStruct(shape, array.dtype, sharding=sharding)


def collectives(program: str) -> list[Collective]:
    """The collectives in the text of a compiled program."""
    found = []
    for line in program.splitlines():
        match = re.search(rf"= (.*?) ({KINDS})(-start)?\(", line)
        if match:
            name = re.search(r'op_name="([^"]*)"', line)
            scopes = name[1].split("/") if name else []
            place = next((scope for scope in reversed(scopes) if scope in PLACES), "outer step")
            found.append(Collective(match[2], place, _bytes(match[1])))
    return found


def _bytes(shapes: str) -> int:
    total = 0
    for kind, sides in SHAPE.findall(shapes):
        total += BYTES.get(kind, 4) * int(np.prod([int(s) for s in sides.split(",") if s] or [1]))
    return total


def work(settings: Settings, _: str) -> None:
    """Compiles, prints, and fails if it does not fit."""
    began = time.perf_counter()
    try:
        mesh, program = compile_for(settings)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        needed = " ".join(str(error).split())[:300]
        raise command.FailedError(f"does not fit {settings.topology}: {needed}") from error
    seconds = time.perf_counter() - began
    kind = mesh.devices.flat[0].device_kind
    cores = len({device.core_on_chip for device in mesh.devices.flat})
    memory = loop.memory(program)
    mib = lambda size: f"{size / 2**20:,.0f} MiB"
    most = HBM[kind] * 2**30 / cores
    sides = f"{mesh.shape[meshes.SETS]} x {mesh.shape[meshes.CLASSES]}"
    needs = sum(memory)
    print(f"{settings.topology}: {mesh.size} devices, sets x classes = {sides}; {kind}")
    print(f"compiled in {seconds:.0f} s")
    print(
        f"memory of a device: {mib(needs)} of {mib(most)} ({100 * needs / most:.1f} %): "
        f"data and images {mib(memory.arguments)}, "
        f"temporary {mib(memory.temporary)}"
    )
    found = Counter(collectives(program.as_text() or ""))
    print(f"collectives: {sum(found.values())}")
    for each, times in sorted(found.items()):
        print(f"  {times} {each.kind} in {each.place}, {each.bytes:,} bytes")
    if needs > most:
        raise command.FailedError(f"does not fit {settings.topology}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    return command.main(MODULE, __doc__, Settings, work, arguments)


if __name__ == "__main__":
    sys.exit(main())
