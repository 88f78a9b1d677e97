"""Strict for all tests: ranks are never promoted silently, shapes and types are checked."""

import os

import jax
import pytest
from jaxtyping import install_import_hook

install_import_hook("gm_jax", "beartype.beartype").__enter__()  # before any import of gm_jax

jax.config.update("jax_numpy_rank_promotion", "raise")
# Compiling is what these tests spend their time on: compile quickly, and each program only once.
jax.config.update("jax_disable_most_optimizations", True)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


@pytest.fixture(scope="session", autouse=True)
def compilation_cache(tmp_path_factory):
    """Shared by the session's processes, whose base folders have one parent under xdist."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "compiled"
    jax.config.update("jax_compilation_cache_dir", str(folder))


@pytest.fixture
def x64():
    """Double precision, as the golden vectors are."""
    with jax.enable_x64(True):
        yield
