"""Flux: the backend framework where every execution is a record."""

__version__ = "0.1.0"
