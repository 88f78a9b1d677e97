"""A parsed command at work, and what went wrong as one line and an exit status."""

import os
import shlex
import signal
from collections.abc import Callable, Sequence
from typing import Any

import jax

from gm_jax.cli.commands import Condense, Evaluate, Export, Finish, Prepare, Report, Show
from gm_jax.cli.compile_cache import use_compile_cache
from gm_jax.cli.condense import condense
from gm_jax.cli.ending import end
from gm_jax.cli.evaluate import evaluate
from gm_jax.cli.export import export, show
from gm_jax.cli.finish import finish
from gm_jax.cli.prepare import prepare
from gm_jax.cli.report import report
from gm_jax.cli.terminal import notices
from gm_jax.errors import StoppedError, UserError
from gm_jax.parallel import hosts

WORK: dict[type, Callable[[Any], None]] = {
    Condense: condense,
    Finish: finish,
    Evaluate: evaluate,
    Show: show,
    Report: report,
    Export: export,
    Prepare: prepare,
}


SMALLER = {Condense: "smaller sizes or --microbatch", Evaluate: "--chunk 1, or smaller networks"}
"""What needs less memory, by command."""


def run(command: Any, arguments: Sequence[str]) -> int:
    """Does the work of a command; returns the exit status.

    Args:
        command: of a class of `gm_jax.cli.commands`.
        arguments: that it was parsed from, for the line that says how to resume.
    """
    try:
        with notices():
            if not getattr(command, "no_compile_cache", True):
                use_compile_cache()
            WORK[type(command)](command)
    except (UserError, OSError) as error:
        return end(str(error), 2)
    except StoppedError as error:
        again = [word for word in arguments if word not in ("--replace", "--resume")]
        message = f"{error}; to end it here: gm-jax finish {shlex.quote(str(command.out))}"
        message += f"; to resume: gm-jax {shlex.join([*again, '--resume'])}"
        return end(message, 128 + signal.Signals[error.signal])
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if is_out_of_memory(error):
            return end(f"out of memory: try {SMALLER.get(type(command), 'smaller sizes')}", 2)
        if not hosts.is_lost(error):
            raise
        end(f"another process ended or cannot be reached: add --resume, in all ({error})", 1)
        os._exit(1)  # else JAX waits for that process, and aborts
    return 0


def is_out_of_memory(error: Exception) -> bool:
    """Whether Python or a device had no memory left."""
    of_device = isinstance(error, jax.errors.JaxRuntimeError) and "EXHAUSTED" in str(error)
    return of_device or isinstance(error, MemoryError)
