"""Reading the record: one Reader, whose answers are the JSON shapes that the CLI prints and the HTTP API
returns.
"""

from flux.query.reader import Reader

__all__ = ["Reader"]
