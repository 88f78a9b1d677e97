"""The exceptions that end a command with one line, and how others become one of them."""

import contextlib
import importlib
import os
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType


class UserError(ValueError):
    """A wrong setting or input: one line that names the value and what is allowed."""


class StoppedError(Exception):
    """A signal asked the run to stop, and it did, after saving.

    Attributes:
        signal: its name.
    """

    def __init__(self, message: str, signal: str):
        super().__init__(message)
        self.signal = signal


def in_one_line(error: BaseException) -> str:
    """What an exception says first, and the line of a user's own file that it came from.

    Of a traceback, the last line outside of this package, of installed ones, and of Python's own.
    """
    said = str(error).strip().partition("\n")[0]
    text = f"{type(error).__name__}: {said}" if said else type(error).__name__
    installed = (sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib"))
    folders = (str(Path(__file__).parent), *filter(None, installed))
    others = ("<frozen ", *(f"{folder}{os.sep}" for folder in folders))
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith(others):
            return f"{text} ({frame.filename}, line {frame.lineno})"
    return text


@contextlib.contextmanager
def of_variant() -> Iterator[None]:
    """Whatever a user's functions raise meanwhile, or JAX of what they return, as a `UserError`.

    It says in one line what it is, and the error is its cause.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"the variant cannot be used: {in_one_line(error)}") from error


def require(module: str, extra: str) -> ModuleType:
    """A module that not everybody needs, imported.

    Raises:
        UserError: it is not installed; `extra` is the one of gm_jax that brings it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise UserError(f"this needs {package}: pip install 'gm_jax[{extra}]'") from error
