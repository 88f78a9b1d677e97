"""What a command prints: lines on standard error, the last of which says why it failed."""

import contextlib
import io
import sys


def let_any_name_be_printed() -> None:
    """Escapes characters that a stream cannot show: a path may hold any byte."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def complain(line: str) -> None:
    """Prints a line at once, in whichever process."""
    with contextlib.suppress(OSError):  # a closed standard error is no reason to stop
        print(line, file=sys.stderr, flush=True)


def end(why: str, status: int, program: str = "gm-jax") -> int:
    """Prints why on one line, whatever names it quotes; returns the status."""
    complain(f"{program}: {' '.join(why.splitlines())}")
    return status
