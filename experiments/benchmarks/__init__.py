"""Measurements of time and memory, each a script: `python -m experiments.benchmarks.NAME`."""
