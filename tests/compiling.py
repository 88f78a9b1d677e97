"""XLA's older emitters, by which the tests' programs compile in 60 % of the time."""

from importlib.metadata import version

EMITTERS = "xla_cpu_use_fusion_emitters"

HAS_OLDER = version("jaxlib").startswith("0.10.")
"""Newer ones have no choice."""

OLDER_EMITTERS = f"--{EMITTERS}=false"

DEFAULT_EMITTERS = {EMITTERS: True} if HAS_OLDER else {}
"""Options that compile one program by the default emitters all the same."""


def with_older_emitters(flags: str) -> str:
    """A whole process's XLA_FLAGS, this one added where it is known and not there yet."""
    add = HAS_OLDER and OLDER_EMITTERS not in flags.split()
    return f"{flags} {OLDER_EMITTERS}".strip() if add else flags
