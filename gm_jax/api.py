"""Condensing a data set, from settings to condensed sets."""

import logging
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gm_jax import checks
from gm_jax.build import (
    at_a_time,
    build_mesh,
    build_method,
    start_sets,
    swept_numbers,
)
from gm_jax.condensed import Condensed, DivergedError
from gm_jax.config import (
    Config,
    Devices,
    SetSettings,
    check,
    list_sets,
)
from gm_jax.core import ahead, loop
from gm_jax.core.divergence import Divergence, find_divergence
from gm_jax.core.method import IterationInfo, State, Variant, unchanged
from gm_jax.core.parametrisation import pixels
from gm_jax.data.host import HostImages, Picks
from gm_jax.data.images import ClassImages, Dataset
from gm_jax.errors import UserError
from gm_jax.fit import check_run
from gm_jax.nn import platforms
from gm_jax.parallel import meshes
from gm_jax.parallel.hosts import fetch
from gm_jax.variants import VariantRecord, describe

log = logging.getLogger("gm_jax")


# --- condensing -----------------------------------------------------------------------------------


def condense(
    config: Config,
    dataset: Dataset,
    variant: Variant = unchanged,
    devices: Devices = Devices(),
) -> Condensed:
    """Condenses a data set as the settings say, from start to end.

    Args:
        config: the settings; `config.dataset` is only their record of the set's name.
        dataset: what is condensed.
        variant: a change of the method, `Method -> Method`.
        devices: that the sets, and the classes of each, are spread over; all by default.

    Returns:
        all sets, on the host.

    Raises:
        UserError: a setting is not allowed, or something is wrong with the variant.
        DivergedError: a set stopped being finite; the others were finished first.
    """
    for number, after, _ in iterations(config, dataset, variant, devices=devices):
        log.debug("iteration %d of %d", number + 1, config.iterations)
        state = after
    condensed = finish(config, dataset, state, variant, describe(variant))
    if condensed.diverged:
        raise DivergedError(condensed, fetch(state))
    return condensed


def finish(
    config: Config,
    dataset: Dataset,
    state: State,
    variant: Variant = unchanged,
    record: VariantRecord | None = None,
) -> Condensed:
    """The condensed sets of a state that `iterations` yielded.

    Args:
        config, dataset, variant: as in `iterations`.
        state: the last one.  Of an earlier one, whose sets have not diverged, give `config` with
            as many iterations as are done: sets with fewer than `config.iterations` count as
            diverged.
        record: of the variant, to be saved with the sets.
    """
    state, swept = fetch(state), swept_numbers(config)
    parametrisation = lambda swept: variant(build_method(config, dataset, swept)).parametrisation
    decode = lambda swept, images: parametrisation(swept).decode(images)
    decoded = jax.jit(jax.vmap(decode))(swept, state.images)
    sets, classes, n, *shape = decoded.shape
    plain = parametrisation(list_sets(config)[0].swept).decode is pixels.decode
    return Condensed(
        images=np.asarray(decoded, np.float32).reshape(sets, classes * n, *shape),
        labels=np.repeat(np.arange(classes, dtype=np.int32), n),
        mean=np.asarray(dataset.train.mean, np.float32),
        std=np.asarray(dataset.train.std, np.float32),
        class_names=dataset.class_names,
        iterations=np.asarray(state.iteration),
        config=config,
        variant=record,
        learned=None if plain else np.asarray(state.images, np.float32),
    )


def iterations(
    config: Config,
    dataset: Dataset,
    variant: Variant = unchanged,
    state: State | None = None,
    devices: Devices = Devices(),
) -> Iterator[tuple[int, State, IterationInfo]]:
    """The iterations of a run, for a loop of your own: log, save and stop as you like.

    Checks and compiles at once; logs the memory that the program needs.

    Args:
        config, dataset, variant, devices: as in `condense`.
        state: where to go on from, whatever devices of this process hold it; it is donated.
            Default: the start.

    Returns:
        an iterator of `(number, state, info)`: the iteration's number from 0; the state after it,
        arrays `[sets, ...]`, which the next iteration takes over, so copy what you keep; and what
        it logs, arrays `[sets, outer_steps]`.  They lie on the devices of their sets.

    Raises:
        UserError: a setting is not allowed, or something is wrong with the variant.
    """
    check(config)
    checks.check(devices)
    check_run(config, dataset, variant, devices)
    mesh = build_mesh(config, dataset, devices)
    begun = start_sets(config, dataset, variant)
    begun = begun if state is None else begun._replace(state=state)
    unpadded = meshes.unpadded(mesh, len(begun.keys))
    sets = meshes.spread_sets(mesh, begun)
    method_of = lambda swept: variant(build_method(config, dataset, swept))
    real: Any = _with_host(dataset.train) if devices.stream else dataset.train
    data = meshes.spread_classes(mesh, real)
    chunk = at_a_time(config.set_chunk, platforms.defaults().set_chunk)
    with jax.default_matmul_precision(config.precision):
        step = loop.compile_iteration(method_of, sets, data, chunk, mesh)
    _log_memory(step, 1 if mesh is None else mesh.size)
    run = loop.iterations(step, sets, data, config.iterations)
    if devices.stream:
        devices_used = np.array([jax.local_devices()[:1]]) if mesh is None else mesh.devices
        drawn = ahead.orders(method_of, begun, real, devices_used)
        numbers = range(loop.iterations_done(sets.state), config.iterations)
        run = _reading_ahead(run, real.images, map(drawn, numbers))
    return ((number, *unpadded((state, info))) for number, state, info in run)


def _with_host(data: ClassImages) -> Any:
    """The same images, which stay where they are."""
    images: Any = HostImages(np.asarray(data.images))
    return data._replace(images=images, counts=jnp.asarray(data.counts))


def _reading_ahead(
    run: Iterator[tuple[int, State, IterationInfo]],
    host: HostImages,
    expected: Iterator[list[list[Picks]]],
) -> Iterator[tuple[int, State, IterationInfo]]:
    """The same iterations, before each of which the host learns what it draws."""
    for picks in expected:
        host.expect(picks)
        if (one := next(run, None)) is None:
            return  # every set diverged
        yield one
        jax.block_until_ready(one[-1])  # what it draws is still expected


def _log_memory(step: jax.stages.Compiled, devices: int) -> None:
    data, temporary = (size / 2**20 for size in loop.memory(step))
    parts = f"data set and images {data:.0f}, temporary {temporary:.0f}"
    each = f" on each of {devices} devices" if devices > 1 else ""
    log.info("memory: %.0f MiB%s (%s)", data + temporary, each, parts)


def explain(error: DivergedError, dataset: Dataset, variant: Variant = unchanged) -> str:
    """Why the first set that diverged did, in one line; its last iteration is repeated for that.

    Args:
        error: of `condense`.
        dataset: what was condensed.
        variant: what it was condensed with.

    Raises:
        UserError: the error has no state: it was raised of sets that were read from a file.
    """
    if error.state is None:
        raise UserError("a divergence can only be explained where the sets were condensed")
    config, number = error.condensed.config, error.condensed.diverged[0]
    of_set = list_sets(config)[number]
    state = jax.tree.map(lambda a: jnp.asarray(a[number]), error.state)
    key = start_sets(config, dataset, variant).keys[number]
    method = variant(build_method(config, dataset, of_set.swept))
    on_host = isinstance(dataset.train.images, np.ndarray)
    data = _with_host(dataset.train) if on_host else dataset.train
    with jax.default_matmul_precision(config.precision):
        found = find_divergence(method, key, data, state)
    return f"{error}; set {number} (seed {of_set.seed}): {_describe_divergence(found, of_set)}"


def _describe_divergence(found: Divergence | None, of_set: SetSettings) -> str:
    if found is None:
        return "when its last iteration was repeated, all was finite"
    what, verb = {
        "images": ("images", "are"),
        "gradient": ("loss is finite, its gradient with respect to the images", "is"),
        "loss": ("loss", "is"),
    }.get(found.part, (f"{found.part} loss", "is"))
    tensor = f" (tensor {found.tensor})" if found.tensor else ""
    where = f"{verb} not finite in outer step {found.step} of iteration {found.iteration}"
    if found.cause is None:
        advice = "look for a derivative of the distance or the signal that is not, as of sqrt at 0"
        return f"the {what} {where}: {advice}"
    value = getattr(of_set.swept, found.cause)
    than = "" if value is None else f" than {value:g}"
    return f"the {what}{tensor} {where}: try a smaller {checks.flag(found.cause)}{than}"
