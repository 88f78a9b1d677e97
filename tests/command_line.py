"""The command line, called in this process, and what a refusal looks like."""

import contextlib
import io
import json

from gm_jax.cli import main as cli

SMALL = (
    "--dataset digits --width 8 --depth 2 --iterations 2 --batch-real 8 --ipc 2 --outer-steps 2 "
    "--inner-epochs 3 --seeds 2 --seed 7"
).split()


def gm_jax(*arguments):
    """(exit status, standard output, standard error) of a command."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = cli.main([str(a) for a in arguments])
    return status, out.getvalue(), err.getvalue()


def assert_refused(result, *words):
    """One line on standard error that says all of `words`, nothing on standard output, status 2."""
    status, out, err = result
    assert (status, out) == (2, "")
    assert err.startswith("gm-jax: ")
    assert err.count("\n") == 1
    for word in words:
        assert word in err


def results(folder):
    """Every byte that a run leaves but the clock's: contents by name."""
    found = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}
    lines = [json.loads(line) for line in found["metrics.jsonl"].decode().splitlines()]
    found["metrics.jsonl"] = [{k: v for k, v in line.items() if k != "seconds"} for line in lines]
    return found
