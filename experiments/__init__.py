"""Scripts that use the library: the paper's tables and figures, and benchmarks."""
