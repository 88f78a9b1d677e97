"""Runs that are killed, or whose disk is full, can be resumed: nothing of them is lost."""

import os
import subprocess
import sys

import pytest
from command_line import SMALL, gm_jax, results

from gm_jax.storage import checkpoints
from tests.stress import faults

pytestmark = pytest.mark.slow


def test_killed_runs_end_as_unbroken_ones(capsys):
    """One is killed anywhere, one while a checkpoint is written; `make faults` kills 20."""
    assert faults.main(["--kills", "2"]) == 0
    assert "2 ended equal" in capsys.readouterr().out


DISK = """
import subprocess, sys
folder, *command = sys.argv[1:]
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=110k", "tmpfs", folder], check=True)
done = subprocess.run([sys.executable, "-m", "gm_jax", *command], capture_output=True, text=True)
subprocess.run(["cp", "-r", folder + "/run", folder + "-kept"], check=True)
print(done.stdout, end="")
print(done.stderr, end="", file=sys.stderr)
sys.exit(done.returncode)
"""
"""Runs a command on a disk of 110 kB, and copies the run folder from it."""


def test_a_full_disk_leaves_a_run_that_can_be_resumed(tmp_path):
    """In a namespace of its own; where there is none, see the file size limit in test_resume.py."""
    if subprocess.run(["unshare", "-rm", "true"], check=False).returncode:
        pytest.skip("no mount namespaces here")
    folder = tmp_path / "disk"
    folder.mkdir()
    longer = [*SMALL, "--iterations", 100, "--checkpoint-every", 1]
    command = ["condense", *longer, "--out", folder / "run"]
    code = [sys.executable, "-c", DISK, str(folder), *map(str, command)]
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "4"}  # as here: config.json records them
    done = subprocess.run(
        ["unshare", "-rm", *code], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    kept = tmp_path / "disk-kept"
    saved = checkpoints.numbers(kept)
    assert saved
    last = done.stderr.splitlines()[-1]
    assert all(word in last for word in ("space", str(saved[-1]), "--resume")), last
    assert gm_jax("condense", *longer, "--out", kept, "--resume")[0] == 0
    assert gm_jax("condense", *longer, "--out", tmp_path / "unbroken")[0] == 0
    assert results(kept) == results(tmp_path / "unbroken")
