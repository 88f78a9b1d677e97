"""Variants by name: `module:function`, a function `Method -> Method` in the user's own file."""

import functools
import hashlib
import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from gm_jax.core.method import Variant, unchanged
from gm_jax.errors import UserError, in_one_line


class VariantRecord(NamedTuple):
    """What a run folder records of its variant.

    Attributes:
        name: `module:function`.
        sha256: of the module's source file; `None` where there is none, as in a notebook.
    """

    name: str
    sha256: str | None


def load_variant(name: str) -> Variant:
    """The function of that name; modules are looked for in the current folder too.

    Raises:
        UserError: the name has another form, or there is no such function.
    """
    module = _module(name)
    function = getattr(module, name.partition(":")[2], None)
    if not callable(function):
        functions = [
            key
            for key, value in vars(module).items()
            if callable(value) and getattr(value, "__module__", None) == module.__name__
        ]
        raise UserError(
            f"--variant {name}: no such function in {_source(module) or module.__name__}: "
            f"choose {', '.join(functions) or 'another module'}"
        )
    return function


def describe_named(name: str) -> VariantRecord:
    """The record of a variant by name."""
    return VariantRecord(name, _digest(_module(name)))


def describe(variant: Variant) -> VariantRecord | None:
    """The record of a function, `None` for the one that changes nothing.

    What its arguments are bound to, by `functools.partial` or as a closure, is not recorded.
    """
    if variant is unchanged:
        return None
    while isinstance(variant, functools.partial):
        variant = variant.func
    module = getattr(variant, "__module__", None) or type(variant).__module__
    function = getattr(variant, "__qualname__", type(variant).__qualname__)
    return VariantRecord(f"{module}:{function}", _digest(sys.modules.get(module)))


def _module(name: str) -> ModuleType:
    module, colon, function = name.partition(":")
    if not (module and colon and function):
        raise UserError(f"--variant {name}: must be MODULE:FUNCTION, such as my_research:manhattan")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:  # as `python -m` would have it
        sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(module)
    except (Exception, SystemExit) as error:  # whatever a user's file raises
        reason = in_one_line(error)
        raise UserError(f"--variant {name}: {module} cannot be imported: {reason}") from error


def _digest(module: ModuleType | None) -> str | None:
    """SHA-256 of a module's source file."""
    path = _source(module)
    return None if path is None else hashlib.sha256(path.read_bytes()).hexdigest()


def _source(module: ModuleType | None) -> Path | None:
    """A module's source file, if it has one."""
    path = getattr(module, "__file__", None)
    return Path(path) if path is not None and Path(path).is_file() else None
