"""The version of all eight distributions: each pyproject.toml reads this file, nothing imports it."""

__version__ = "0.1.0"
