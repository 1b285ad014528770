"""The SQL of this package, read once."""

from __future__ import annotations

from flux.store.sql import Queries

Q = Queries("flux.query")
