"""The version, apart from the package's root, which imports everything."""

__version__ = "0.2.0"
