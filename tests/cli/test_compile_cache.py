"""Compiled programs are kept: the second start compiles nothing, whatever happened to the files."""

import os
import subprocess
import sys

import pytest
from command_line import SMALL, results

pytestmark = pytest.mark.slow

PROGRAM = """
import sys
import jax
from jax._src import compilation_cache  # what a cached program is read by, and nothing else

hits = {}  # by program: one that is compiled twice may be read the second time
read = compilation_cache.get_executable_and_time
def counted(key, *arguments, **keywords):
    found = read(key, *arguments, **keywords)
    hits.setdefault(key, found[0] is not None)
    return found
compilation_cache.get_executable_and_time = counted
from gm_jax.cli.main import main
status = main(sys.argv[1:])
print(f"read {sum(hits.values())} of {len(hits)}")
sys.exit(status)
"""


def condense(cache, out, *more):
    """(programs read from the cache, programs asked for) of a short run."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
    command = ["condense", *SMALL, "--seeds", "1", "--iterations", "1", *more, "--out", str(out)]
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, *command],
        env=environment | {"GM_JAX_CACHE": str(cache), "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    read, _, asked = ran.stdout.splitlines()[-1].removeprefix("read ").partition(" of ")
    return int(read), int(asked)


def test_the_second_start_reads_what_the_first_compiled(tmp_path):
    cache = tmp_path / "cache"
    assert condense(cache, tmp_path / "first")[0] == 0
    (folder,) = (cache / "compiled").iterdir()
    entries = list(folder.glob("*-cache"))
    assert any("step" in path.name for path in entries)
    read, asked = condense(cache, tmp_path / "second")
    assert read >= len(entries) > 0
    assert asked > 0
    assert results(tmp_path / "first") == results(tmp_path / "second")

    # damaged entries are compiled again, and the run is the same
    for path in entries:
        path.write_bytes(path.read_bytes()[:100])
    assert condense(cache, tmp_path / "third")[0] == 0
    assert results(tmp_path / "first") == results(tmp_path / "third")

    # another processor has a folder of its own
    folder.rename(folder.with_name("0123456789abcdef"))
    assert condense(cache, tmp_path / "fourth")[0] == 0


def test_it_can_be_turned_off_and_a_folder_that_cannot_be_written_is_no_error(tmp_path):
    cache = tmp_path / "cache"
    assert condense(cache, tmp_path / "off", "--no-compile-cache")[0] == 0
    assert not cache.exists()
    cache.write_text("a file")
    assert condense(cache, tmp_path / "file")[0] == 0
