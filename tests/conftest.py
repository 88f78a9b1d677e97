"""Strict for all tests: ranks are never promoted silently, shapes and types are checked."""

import gc
import os
from pathlib import Path

from compiling import DEFAULT_EMITTERS, with_older_emitters

# Where libtpu is installed, JAX would look for a TPU.  `JAX_PLATFORMS=cuda,cpu` tests a GPU.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = with_older_emitters(os.environ.get("XLA_FLAGS", ""))

import jax
import pytest
from jaxtyping import install_import_hook

install_import_hook("gm_jax", "beartype.beartype").__enter__()  # before any import of gm_jax

ON_CPU = os.environ["JAX_PLATFORMS"] == "cpu"

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_num_cpu_devices", 4)  # as if there were so many: sets are spread over them
# Compiling is what these tests spend their time on: compile quickly, and each program only once.
jax.config.update("jax_disable_most_optimizations", ON_CPU)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def pytest_configure(config):
    """Compiled programs last from one run of the tests to the next, for this processor.

    Processes that tests start compile in the same way, from the same cache: else they would be
    other programs, whose last bits may differ.  (But for those of test_hosts.py.)
    """
    from gm_jax.cli.compile_cache import processor

    gc.freeze()  # the collector need not look again and again at what importing has made
    gc.set_threshold(50_000, 20, 20)

    folder = Path(config.rootpath) / ".pytest_cache" / "compiled" / processor()
    jax.config.update("jax_compilation_cache_dir", str(folder))
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = str(int(ON_CPU))
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"


@pytest.fixture
def x64():
    """Double precision, as the golden vectors are."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def default_emitters(monkeypatch):
    """Iterations compiled by XLA's default emitters, where results are compared to the bit.

    By the older ones, a program's last bits depend on where its images come from, and on how many
    sets it has.
    """
    compiled = jax.stages.Lowered.compile
    as_users = lambda lowered, options=None: compiled(lowered, (options or {}) | DEFAULT_EMITTERS)
    monkeypatch.setattr(jax.stages.Lowered, "compile", as_users)
