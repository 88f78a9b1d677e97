"""A program to be measured, in a process of its own: both ends of the connection to it.

Requests are lines of JSON on the worker's standard input, `[name, argument]`; each is answered by
one line of JSON.  This module imports neither JAX nor PyTorch: a worker imports one of them, never
both.
"""

import contextlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from experiments.benchmarks.cases import Case, case_name

ROOT = Path(__file__).resolve().parents[2]

Ask = Callable[..., Any]
"""`(name, argument=None) -> reply`."""

Call = Callable[[], object]
"""The work of a case; it returns when the work is done."""


class WorkerError(RuntimeError):
    """A worker died; its own messages are on standard error."""


# --- in the measuring process ---------------------------------------------------------------------


@contextlib.contextmanager
def start(module: str, purpose: str, environment: Mapping[str, str] = os.environ) -> Iterator[Ask]:
    """A worker running `module`, killed at the end of the block.

    Args:
        module: that calls `serve`.
        purpose: for the message if the worker dies.
        environment: variables of the worker's process.
    """
    # JAX would reserve most of an accelerator's memory, and leave the other program none.
    environment = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", **environment}
    process = subprocess.Popen(
        [sys.executable, "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env=environment,
        text=True,
        start_new_session=True,  # Ctrl-C reaches the measuring process alone, which kills workers
    )
    requests, replies = process.stdin, process.stdout
    assert requests is not None
    assert replies is not None

    def ask(name: str, argument: Any = None) -> Any:
        try:
            print(json.dumps([name, argument]), file=requests, flush=True)
            reply = replies.readline()
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
            requests.close()
        replies.close()


def _status(code: int) -> str:
    return f"by signal {-code}" if code < 0 else f"with exit status {code}"


# --- in the worker --------------------------------------------------------------------------------


def serve(
    prepare: Callable[[Case], tuple[Call, dict[str, Any]]],
    peak_bytes: Callable[[], int],
    further: dict[str, Callable[[], Any]],
) -> None:
    """Answers requests until standard input ends.

    Args:
        prepare: `case -> (call, info)`; `info` is the reply to "prepare", after a first call that
            is not timed.
        peak_bytes: the largest memory so far.
        further: what answers requests other than "prepare", "time" (seconds of a call of the case
            of that name) and "memory".
    """
    imports, replies = peak_bytes(), _reply_channel()
    calls: dict[str, Call] = {}
    reply: Any
    for line in sys.stdin:
        name, argument = json.loads(line)
        if name == "prepare":
            case = Case(**argument)
            call, reply = prepare(case)
            call()
            calls[case_name(case)] = call
        elif name == "time":
            reply = seconds(calls[argument])
        elif name == "memory":
            reply = {"imports_bytes": imports, "peak_bytes": peak_bytes()}
        else:
            reply = further[name]()
        try:
            print(json.dumps(reply), file=replies, flush=True)
        except BrokenPipeError:  # the measuring process is gone
            os._exit(1)


def _reply_channel() -> TextIO:
    """Standard output, for replies alone: what libraries print goes to standard error from now."""
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return channel


def seconds(call: Call) -> float:
    """Duration of one call."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


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
