"""What is shown during a run: lines and a progress bar, on standard error."""

import contextlib
import io
import logging
import sys
from collections.abc import Iterator

from tqdm import tqdm

from gm_jax.cli.ending import complain
from gm_jax.parallel.hosts import is_first


def say(line: str) -> None:
    """Prints a line at once, in the first process; a closed standard error is no reason to stop."""
    if is_first():
        complain(line)


@contextlib.contextmanager
def notices() -> Iterator[None]:
    """While it lasts, what the library logs is shown, a line each."""
    logger, handler = logging.getLogger("gm_jax"), _Notices()
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


class _Notices(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say(record.getMessage())


def progress(total: int, unit: str, done: int = 0) -> tqdm:
    """A bar with the loss and the time left; a line every 10 seconds where there is no terminal."""
    if not is_first():
        return tqdm(disable=True)
    if sys.stderr.isatty():
        return tqdm(total=total, initial=done, unit=unit)
    layout = "{n_fmt}/{total_fmt} {unit}, {elapsed} elapsed, {remaining} left{postfix}"
    return tqdm(
        total=total,
        initial=done,
        unit=unit,
        file=_Lines(),
        mininterval=10,
        bar_format=layout,
        leave=False,
    )


class _Lines(io.TextIOBase):
    """Standard error, for a bar that draws itself again and again: a line for each drawing."""

    def write(self, text: str) -> int:
        line = text.strip("\r\n ")
        if line:
            say(line)
        return len(text)
