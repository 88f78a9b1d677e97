"""Killed runs and bad files, many of them: `python -m tests.stress.faults`, `...fuzz`."""
