"""Lines on standard error, the last of which says why a command could not do its work."""

import contextlib
import sys


def complain(line: str) -> None:
    """Prints a line at once, in whichever process."""
    with contextlib.suppress(OSError):  # a closed standard error is no reason to stop
        print(line, file=sys.stderr, flush=True)


def end(why: str, status: int) -> int:
    """Prints why on one line, whatever names it quotes; returns the status."""
    complain(f"gm-jax: {' '.join(why.splitlines())}")
    return status
