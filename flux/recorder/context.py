"""Whose span is this: the execution and the host call that an OpenTelemetry context carries.

The executor and Recording put them in; the span processor looks them up in a span's parent context.
"""

from __future__ import annotations

from typing import cast

from opentelemetry.context import Context, create_key, get_current, set_value

from flux.recorder.execution import Execution

EXECUTION_KEY = create_key("flux.execution")
CALL_KEY = create_key("flux.call")


def with_execution(context: Context | None, execution: Execution) -> Context:
    """`context` (None: the current one) inside `execution`, outside any host call of another."""
    return set_value(CALL_KEY, None, set_value(EXECUTION_KEY, execution, context))


def with_call(context: Context | None, seq: int) -> Context:
    """`context` inside the host call numbered `seq`."""
    return set_value(CALL_KEY, seq, context)


def current_execution() -> Execution | None:
    """The execution of the current context, or None."""
    return cast("Execution | None", get_current().get(EXECUTION_KEY))
