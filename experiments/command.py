"""The command line that all scripts share: every failure is one line and an exit status."""

import os
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from gm_jax import checks
from gm_jax.cli import main as cli
from gm_jax.cli.ending import end, let_any_name_be_printed
from gm_jax.cli.terminal import notices
from gm_jax.cli.work import is_out_of_memory
from gm_jax.errors import StoppedError, UserError

Settings = TypeVar("Settings")


SOME = checks.Allowed(bool, "at least one value")
"""Of a setting with several values."""


class FailedError(Exception):
    """Part of the work was not done: one line that names it."""


def parse(
    settings: type[Settings],
    arguments: Sequence[str],
    program: str = "",
    description: str | None = None,
) -> Settings:
    """The settings that the arguments stand for, each checked by its annotation.

    Args:
        settings: a dataclass; see `gm_jax.checks`.
        arguments: of the command line.
        program: how the script is called, for `--help`.
        description: for `--help`.

    Raises:
        UserError: an argument is unknown or not allowed.
        SystemExit: `--help` was printed.
    """
    found: Any = cli.parse(arguments, settings, program, description or "")
    checks.check(found)
    return found


def main(
    module: str,
    description: str | None,
    settings: type[Settings],
    work: Callable[[Settings, str], None],
    arguments: Sequence[str] | None = None,
) -> int:
    """Parses the settings and does the work.

    Args:
        module: of the script, as `python -m` knows it.
        description: for `--help`.
        settings: see `parse`.
        work: `(settings, command)`, where `command` is what the user typed.
        arguments: of the command line; `None` is `sys.argv`.

    Returns:
        the exit status: 0 if the work was done, 1 if it failed, 2 for a user's mistake, 130 and 143
        if a signal stopped it.
    """
    program, name = f"python -m {module}", module.rpartition(".")[2]
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    let_any_name_be_printed()
    try:
        parsed = parse(settings, arguments, program, description)
        with notices():
            work(parsed, shlex.join([*program.split(), *arguments]))
    except (UserError, OSError) as error:
        return end(str(error), 2, name)
    except FailedError as error:
        return end(str(error), 1, name)
    except StoppedError as error:
        message = f"{error}; run the same command again to continue"
        return end(message, 128 + signal.Signals[error.signal], name)
    except KeyboardInterrupt:
        return end("interrupted", 130, name)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return end("out of memory: try smaller sizes", 2, name)
    return 0


def check_writable(out: Path) -> None:
    """Raises `UserError` if the file `--out` cannot be written, before hours are spent."""
    folder = out.parent
    if out.is_dir() or not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise UserError(f"--out {out} cannot be written: name a file in a writable folder")
