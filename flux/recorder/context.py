"""Whose span is this: the execution and the host call that an OpenTelemetry context carries.

The executor and Recording put them in; the span processor looks them up in a span's parent context.
"""

from __future__ import annotations

from time import time_ns
from typing import cast

from opentelemetry.context import Context, create_key, get_current, set_value
from opentelemetry.trace import Span
from opentelemetry.trace.propagation import _SPAN_KEY

from flux.recorder.execution import Execution

EXECUTION_KEY = create_key("flux.execution")
CALL_KEY = create_key("flux.call")
SPAN_KEY = _SPAN_KEY
"""Under which OpenTelemetry keeps a context's span."""


def with_execution(context: Context | None, execution: Execution, span: Span | None = None) -> Context:
    """`context` (None: the current one) inside `execution`, and a span of it where one is given; outside any
    host call of another.
    """
    outer = get_current() if context is None else context
    if span is None:
        return Context({**outer, EXECUTION_KEY: execution, CALL_KEY: None})
    return Context({**outer, EXECUTION_KEY: execution, CALL_KEY: None, SPAN_KEY: span})


def with_call(context: Context | None, seq: int) -> Context:
    """`context` inside the host call numbered `seq`."""
    return set_value(CALL_KEY, seq, context)


def now_in(context: Context | None) -> int:
    """The time of what is about to happen in `context` (None: the current one), ns since the epoch: its
    execution's, else the wall clock's.
    """
    where = get_current() if context is None else context
    execution = cast("Execution | None", where.get(EXECUTION_KEY))
    return time_ns() if execution is None or execution.ended else execution.now()


def current_execution() -> Execution | None:
    """The execution of the current context, or None."""
    return cast("Execution | None", get_current().get(EXECUTION_KEY))
