"""Flux: the backend framework where every execution is a record."""

import importlib
from typing import Any

__all__ = ["__version__", "instrument_asyncpg"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`flux.instrument_asyncpg`, loaded when it is asked for: few importers need OpenTelemetry."""
    if name == "instrument_asyncpg":
        return importlib.import_module("flux.data.instrument").instrument_asyncpg
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
