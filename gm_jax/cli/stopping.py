"""Signals that ask a run to stop, which it does when its iteration is done."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def stopping() -> Iterator[Callable[[], str | None]]:
    """While it lasts, SIGTERM and Ctrl-C only leave their name with the function given.

    The second one does what it always does; those that are ignored (nohup) stay so.
    """
    came: list[str] = []
    before: dict[int, Any] = {}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def handle(number: int, _: Any) -> None:
        came.append(signal.Signals(number).name)
        restore()
        with contextlib.suppress(OSError):  # print may be in use, or the stream closed
            os.write(2, b"\nfinishing this iteration; once more to leave at once\n")

    if threading.current_thread() is threading.main_thread():  # else none can be set
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, handle)
    try:
        yield lambda: came[0] if came else None
    finally:
        restore()
