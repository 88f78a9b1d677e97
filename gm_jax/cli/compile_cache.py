"""Compiled programs are kept between runs: the second start of a run does not compile again.

JAX's own persistent cache.  A damaged entry is compiled again; its key holds the program,
the compiler's version and its options.  Each kind of processor has a folder of its own, because
code for one may not run on another.
"""

import hashlib
import logging
import platform
from pathlib import Path

import jax

from gm_jax.disk import cache_folder
from gm_jax.errors import UserError

log = logging.getLogger("gm_jax")

MOST_BYTES = 2 * 2**30
"""The least recently used entries beyond this are deleted."""


def use_compile_cache() -> None:
    """Turns the cache on, unless JAX's own settings name one."""
    if jax.config.values["jax_compilation_cache_dir"] is not None:
        return
    try:
        folder = cache_folder() / "compiled" / processor()
        folder.mkdir(parents=True, exist_ok=True)
    except (UserError, OSError) as error:
        log.warning("compiling without a cache: %s", error)
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_compilation_cache_max_size", MOST_BYTES)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def processor() -> str:
    """A name for this kind of processor and what it can do."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = [platform.processor()]
    told = {line for line in lines if line.startswith(("model name", "flags", "Features"))}
    words = " ".join([platform.machine(), *sorted(told or set(lines[:1]))])
    return hashlib.sha256(words.encode()).hexdigest()[:16]
