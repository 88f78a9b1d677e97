"""Scripts over the library: measurements, and the tables and figures of the paper."""
