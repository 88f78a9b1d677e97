"""What annotations allow, and what is said of the rest."""

import dataclasses
import typing
from typing import Annotated, Literal

import pytest

from gm_jax import build, config
from gm_jax.checks import BELOW_ONE, Count, CountOrAll, between, check_fields
from gm_jax.core.distances import DISTANCES
from gm_jax.errors import UserError
from gm_jax.nn.convolution import FORMS
from gm_jax.nn.networks import ARCHITECTURES


@dataclasses.dataclass(frozen=True)
class Inner:
    count: Count = 1


@dataclasses.dataclass(frozen=True)
class Settings:
    ipc: Count = 1
    chunk: CountOrAll | None = None
    momentum: Annotated[float, BELOW_ONE] = 0.5
    size: Annotated[int, between(4, 9)] | None = None
    start: Literal["noise", "real"] = "noise"
    rates: tuple[Annotated[float, BELOW_ONE], ...] = (0.1,)
    name: str = ""
    flag: bool = False
    inner: Inner = Inner()


GOOD = [
    {"ipc": 1000000},
    {"chunk": 0},
    {"chunk": None},
    {"momentum": 0},
    {"size": 9},
    {"start": "real"},
    {"rates": (0.1, 0.2)},
    {"rates": ()},
    {"flag": True},
]

BAD = [
    ({"ipc": 0}, ["--ipc 0", "1 to 1000000"]),
    ({"ipc": True}, ["--ipc True", "type"]),
    ({"ipc": 2.0}, ["--ipc 2.0", "type"]),
    ({"ipc": None}, ["--ipc None", "type"]),
    ({"chunk": -1}, ["--chunk -1", "0 to"]),
    ({"momentum": 1}, ["--momentum 1", "below 1"]),
    ({"momentum": float("nan")}, ["--momentum nan", "number"]),
    ({"size": 3}, ["--size 3", "4 to 9"]),
    ({"start": "zeros"}, ["--start 'zeros'", "noise, real"]),
    ({"start": ["noise"]}, ["--start ['noise']", "noise, real"]),
    ({"rates": (0.1, 2.0)}, ["--rates 2.0", "below 1"]),
    ({"rates": (0.1, 0.1)}, ["--rates 0.1 0.1", "twice"]),
    ({"rates": (0, 0.0)}, ["--rates 0 0.0", "twice"]),
    ({"rates": (0.1234567, 0.1234568)}, ["--rates 0.1234567 0.1234568", "twice (six digits"]),
    ({"rates": 0.1}, ["--rates 0.1", "tuple"]),
    ({"name": 3}, ["--name 3", "type"]),
    ({"flag": 1}, ["--flag 1", "type"]),
    ({"other": 1}, ["--other", "--ipc"]),
]


@pytest.mark.parametrize("values", GOOD)
def test_what_is_allowed(values):
    check_fields(Settings, values)


@pytest.mark.parametrize(("values", "words"), BAD)
def test_what_is_not_names_the_value_and_what_is(values, words):
    with pytest.raises(UserError) as caught:
        check_fields(Settings, values)
    assert all(word in str(caught.value) for word in words), caught.value


def test_settings_within_settings_are_checked():
    with pytest.raises(UserError, match=r"--count 0: must be 1 to"):
        check_fields(Settings, {"inner": Inner(count=0)})


@pytest.mark.parametrize(
    ("names", "table"),
    [
        (config.DistanceName, DISTANCES),
        (config.NetworkName, ARCHITECTURES),
        (config.ConvolutionName, FORMS),
        (config.NormName, build.NORMS),
        (config.ActivationName, build.ACTIVATIONS),
        (config.PoolingName, build.POOLINGS),
        (config.StartName, build.STARTS),
    ],
)
def test_names_of_settings_are_those_of_the_functions(names, table):
    assert list(typing.get_args(names)) == list(table)
