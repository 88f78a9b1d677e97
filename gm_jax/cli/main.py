"""The command line: parses, and turns what went wrong into one line and an exit status.

Status 0 only if the work was done; 2 for a user's mistake; 130 and 143 if a signal stopped it.
"""

import contextlib
import io
import re
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import jax
import tyro

from gm_jax.cli.compile_cache import use_compile_cache
from gm_jax.cli.condense import Condense, condense
from gm_jax.cli.evaluate import Evaluate, evaluate
from gm_jax.cli.export import Export, Show, export, show
from gm_jax.cli.terminal import notices, say
from gm_jax.errors import StoppedError, UserError

Command = (
    Annotated[Condense, tyro.conf.subcommand("condense")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Show, tyro.conf.subcommand("show")]
    | Annotated[Export, tyro.conf.subcommand("export")]
)


def parse(
    arguments: Sequence[str] | None,
    command: Any = Command,
    prog: str = "gm-jax",
    description: str = "Condense image data sets by gradient matching, in JAX.",
) -> Any:
    """The command that the arguments stand for; a mistake in them as one line of `UserError`."""
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(
                command,
                prog=prog,
                description=description,
                args=arguments,
                config=(tyro.conf.FlagCreatePairsOff,),
            )
    except SystemExit as leave:
        if not leave.code:
            raise
        # tyro draws its complaints in a box, of lines or of ASCII: what stands in it is one line
        box = r"[│╭╮╰╯─]+|^\||\|$|\+?-{3,}\+?"
        words = re.sub(box, " ", complaint.getvalue(), flags=re.MULTILINE).split()
        raise UserError(" ".join(words)) from None


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a path may hold any byte
    work: dict[type, Callable[[Any], None]]
    work = {Condense: condense, Evaluate: evaluate, Show: show, Export: export}
    try:
        command = parse(arguments)
        with notices():
            if not getattr(command, "no_compile_cache", True):
                use_compile_cache()
            work[type(command)](command)
    except (UserError, OSError) as error:
        return _end(str(error), 2)
    except StoppedError as error:
        again = [word for word in arguments if word not in ("--replace", "--resume")]
        message = f"{error}; to resume: gm-jax {shlex.join([*again, '--resume'])}"
        return _end(message, 128 + signal.Signals[error.signal])
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if isinstance(error, jax.errors.JaxRuntimeError) and "EXHAUSTED" not in str(error):
            raise
        return _end("out of memory: try smaller sizes or --microbatch", 2)
    except KeyboardInterrupt:
        return _end("interrupted", 130)
    return 0


def _end(why: str, status: int) -> int:
    """Prints why on one line, whatever names it quotes; returns the status."""
    say(f"gm-jax: {' '.join(why.splitlines())}")
    return status
