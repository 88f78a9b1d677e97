"""XLA's default emitters, which conftest.py turns off because the older ones compile sooner."""

import os

EMITTERS = "xla_cpu_use_fusion_emitters"
"""An option of jax 0.10 alone."""

DEFAULT_EMITTERS = {EMITTERS: True} if EMITTERS in os.environ.get("XLA_FLAGS", "") else {}
"""Compiler options that give the default emitters back."""
