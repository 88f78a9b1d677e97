"""The method and nothing else: pure functions of arrays and keys."""
