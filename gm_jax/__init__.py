"""Dataset condensation by gradient matching, in JAX (arXiv 2208.00311)."""

__version__ = "0.1.0"
