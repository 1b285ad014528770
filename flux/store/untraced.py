"""Keeps Flux's own statements out of the traces. Used by Store, for every connection that it hands out.

The same as `opentelemetry.instrumentation.utils.suppress_instrumentation`, whose import alone costs a reading
command a tenth of its time: instrumentations look at this key of the context.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import context

_KEY = "suppress_instrumentation"


@contextmanager
def untraced() -> Iterator[None]:
    """Nothing that runs inside becomes a span of an instrumented library."""
    token = context.attach(context.set_value(_KEY, True))
    try:
        yield
    finally:
        context.detach(token)
