"""What a settings dataclass allows, stated in its annotations and checked in one place.

@dataclasses.dataclass(frozen=True)
class Settings:
    ipc: Count = 10
    start: Literal["noise", "real"] = "noise"

check(Settings(ipc=0))    # UserError: --ipc 0: must be 1 to 1000000
"""

import dataclasses
import math
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple

from gm_jax.errors import UserError

MOST = 10**6
"""The largest count of anything: a typing error beyond it ends in a message, not in a crash."""


class Allowed(NamedTuple):
    """Metadata of an annotated number: which values are allowed.

    Attributes:
        test: whether a value is.
        words: the allowed values, for a message.
    """

    test: Callable[[Any], bool]
    words: str


def between(low: int, high: int) -> Allowed:
    """low <= value <= high."""
    return Allowed(lambda value: low <= value <= high, f"{low} to {high}")


POSITIVE = Allowed(lambda value: 0 < value < 1e30, "above 0 and below 1e30")
NOT_NEGATIVE = Allowed(lambda value: 0 <= value < 1e30, "0 or more and below 1e30")
SHARE = Allowed(lambda value: 0 <= value <= 1, "0 to 1")
BELOW_ONE = Allowed(lambda value: 0 <= value < 1, "0 or more and below 1")
SEED = Allowed(lambda value: 0 <= value < 2**32, "0 to 2**32 - 1")

Count = Annotated[int, between(1, MOST)]
CountOrAll = Annotated[int, between(0, MOST)]


def check(settings: Any) -> None:
    """Raises `UserError` for the first field that its annotation does not allow.

    Fields may be annotated with plain types, `Literal`, `X | None`, `tuple[X, ...]`, `Annotated[X,
    Allowed]`, and other dataclasses.
    """
    check_fields(type(settings), vars(settings))


def check_fields(kind: type, values: dict[str, Any]) -> None:
    """`check` of a dataclass that is yet to be made from these values, which may be of any type."""
    annotations = typing.get_type_hints(kind, include_extras=True)
    for name, value in values.items():
        if name not in annotations:
            raise UserError(f"{flag(name)} is unknown: choose {', '.join(map(flag, annotations))}")
        _check_value(flag(name), value, annotations[name])


def flag(field: str) -> str:
    """A field as the command line spells it."""
    return "--" + field.replace("_", "-")


def _check_value(name: str, value: Any, annotation: Any) -> None:
    kind, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if kind is Annotated:
        _check_value(name, value, arguments[0])
        for allowed in arguments[1:]:
            if value is not None and isinstance(allowed, Allowed) and not allowed.test(value):
                raise UserError(f"{name} {value}: must be {allowed.words}")
    elif kind in (types.UnionType, typing.Union):
        if value is not None or type(None) not in arguments:
            _check_value(name, value, *(a for a in arguments if a is not type(None)))
    elif kind is Literal:
        if value not in arguments:
            choices = ", ".join(map(str, arguments))
            raise UserError(f"{name} {value!r} is unknown: choose {choices}")
    elif kind is tuple:
        _check_several(name, value, arguments[0])
    elif dataclasses.is_dataclass(annotation):
        check(value)
    else:
        _check_type(name, value, annotation)


def _check_several(name: str, values: Any, annotation: Any) -> None:
    """Settings that take several values: distinct ones, as results are named by six digits."""
    if not isinstance(values, tuple):
        raise UserError(f"{name} {values!r}: must be a tuple of values, such as (1, 2)")
    for value in values:
        _check_value(name, value, annotation)
    annotated = typing.get_origin(annotation) is Annotated
    kind = typing.get_args(annotation)[0] if annotated else annotation
    if len({f"{value:g}" if kind is float else value for value in values}) < len(values):
        said = "a value is given twice (six digits count)"
        raise UserError(f"{name} {' '.join(map(str, values))}: {said}")


def _check_type(name: str, value: Any, kind: type) -> None:
    """Settings read from a file may be of any type."""
    kinds = (int, float) if kind is float else kind
    if not isinstance(value, kinds) or (isinstance(value, bool) and kind is not bool):
        raise UserError(f"{name} {value!r} is of the wrong type")
    if isinstance(value, float) and math.isnan(value):
        raise UserError(f"{name} {value}: must be a number")
