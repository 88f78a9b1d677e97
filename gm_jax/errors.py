"""The exceptions that end a command with one line."""

import importlib
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
