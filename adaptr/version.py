"""The version, which rooms may say without knowing the package's names."""

__version__ = "0.1.0"
