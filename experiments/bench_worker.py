"""A program under measurement, in a process of its own: both ends of the line to it.

Requests are lines of JSON on the worker's standard input, `[name, argument]`; each gets one line
of JSON in reply.  No JAX and no PyTorch in here: a worker imports one of them, never both.
"""

import contextlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

from experiments.bench_cases import Case

ROOT = Path(__file__).resolve().parents[1]

Ask = Callable[..., Any]
"""`(name, argument=None) -> reply`."""


class WorkerError(RuntimeError):
    """A worker died; what it said before is on standard error."""


# --- in the measuring process ---------------------------------------------------------------------


@contextlib.contextmanager
def started(module: str, purpose: str) -> Iterator[Ask]:
    """A worker running `module`, ended with the block; `purpose` is for the error if it dies."""
    # JAX would take most of an accelerator's memory at once, and leave the other program none.
    environment = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"} | os.environ
    command, pipe = [sys.executable, "-m", module], subprocess.PIPE
    # A session of its own: Ctrl-C reaches the measuring process alone, which ends its workers.
    process = subprocess.Popen(
        command,
        stdin=pipe,
        stdout=pipe,
        cwd=ROOT,
        env=environment,
        text=True,
        start_new_session=True,
    )

    def ask(name: str, argument: Any = None) -> Any:
        try:
            print(json.dumps([name, argument]), file=process.stdin, flush=True)
            reply = process.stdout.readline()
        except BrokenPipeError:
            reply = ""
        if not reply:
            raise WorkerError(f"{purpose}: {module} died at {name!r}, {_status(process.wait())}")
        return json.loads(reply)

    try:
        yield ask
    finally:
        process.kill()
        process.wait()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        process.stdout.close()


def _status(code: int) -> str:
    return f"by signal {-code}" if code < 0 else f"with exit status {code}"


# --- in the worker --------------------------------------------------------------------------------


def serve(
    prepare: Callable[[Case], tuple[Callable[[], object], dict[str, Any]]],
    peak_bytes: Callable[[], int],
    others: dict[str, Callable[[], Any]],
) -> None:
    """Answers requests until standard input ends.

    Args:
        prepare: `case -> (call, info)`, where a call returns when its work is done; `info` is the
            reply to "prepare", after a first call that is not timed.
        peak_bytes: the largest memory so far.
        others: what answers the requests but "prepare", "time" (seconds of a call) and "memory".
    """
    imports, call, replies = peak_bytes(), None, _reply_channel()
    for line in sys.stdin:
        name, argument = json.loads(line)
        if name == "prepare":
            call, reply = prepare(Case(**argument))
            call()
        elif name == "time":
            reply = seconds(call)
        elif name == "memory":
            reply = {"imports_bytes": imports, "peak_bytes": peak_bytes()}
        else:
            reply = others[name]()
        try:
            print(json.dumps(reply), file=replies, flush=True)
        except BrokenPipeError:  # the measuring process is gone
            os._exit(1)


def _reply_channel() -> TextIO:
    """Standard output, for replies alone: what libraries print goes to standard error from now."""
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return channel


def seconds(call: Callable[[], object]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def peak_resident_bytes() -> int:
    """The most memory that this process has had resident.

    Linux's `ru_maxrss` starts at the parent's, because it outlives exec; `VmHWM` does not.
    """
    with contextlib.suppress(OSError), open("/proc/self/status") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
