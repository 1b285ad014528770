"""OpenTelemetry for asyncpg: the instrumentor's spans with Flux's hook beside it.

`instrument_asyncpg` is called once per process: by flux.app for Flux's own, and by any other
asyncpg program (as `flux.instrument_asyncpg()`) whose changes should carry its traces into
flux.mutations.
"""

from __future__ import annotations

import os
from typing import Any

from opentelemetry.instrumentation import _semconv
from opentelemetry.instrumentation import asyncpg as instrumentation
from opentelemetry.instrumentation.asyncpg import AsyncPGInstrumentor
from opentelemetry.trace import TracerProvider

from flux.data import hook
from flux.data.connection import Connection

_MOST_DESCRIBED = 1000
_INSTRUMENTATION: Any = instrumentation
_describe: Any = _INSTRUMENTATION._hydrate_span_from_args
_OPT_IN = "OTEL_SEMCONV_STABILITY_OPT_IN"


def instrument_asyncpg(tracer_provider: TracerProvider | None = None) -> None:
    """Give every asyncpg connection of this process spans, and its changes their context.

    Calling it again does nothing.

    - A statement is one CLIENT span, the instrumentor's, with the stable database names. The hook
      adds `db.operation.name`, `db.response.returned_rows` and `db.response.status_code`.
    - COPY is a span too. BEGIN, COMMIT, ROLLBACK and savepoints are none: a transaction is one
      INTERNAL span around its statements.
    - In a database that Flux captures, changed rows are recorded under the execution that is current,
      else under the current trace's id, whatever form of statement changed them: autocommit and in
      transactions, prepared, many at once, cursors, COPY both ways, DO and CALL (two round trips
      more). Behind a transaction pooler (`statement_cache_size=0`) only transactions, COPY and
      statements without arguments other than DO and CALL are.

    Args:
        tracer_provider: makes the spans; by default the global one.
    """
    if hook.installed():
        return
    opted = [word for word in os.environ.get(_OPT_IN, "").split(",") if word]
    if not {"database", "database/dup"} & set(opted):
        os.environ[_OPT_IN] = ",".join([*opted, "database"])
    instrumentor = _instrumentor()
    if instrumentor.is_instrumented_by_opentelemetry:
        instrumentor.uninstrument()
    hook.install_inside()
    instrumentor.instrument(tracer_provider=tracer_provider)
    # The opt-in is read once per process: another instrumentation may have done so before it said `database`.
    if instrumentor._semconv_opt_in_mode is _semconv._StabilityMode.DEFAULT:
        instrumentor._semconv_opt_in_mode = _semconv._StabilityMode.DATABASE
    _INSTRUMENTATION._hydrate_span_from_args = _described
    hook.install_around(tracer_provider)


def uninstrument_asyncpg() -> None:
    """Take all of it back."""
    if hook.installed():
        hook.remove_around()
        _INSTRUMENTATION._hydrate_span_from_args = _describe
        instrumentor = _instrumentor()
        instrumentor.uninstrument()
        hook.remove_inside()


def _described(connection: Any, query: str, parameters: Any, **more: Any) -> dict[str, Any]:
    """The instrumentor's attributes of a statement. Those of one sent before on the same connection of ours
    are the same: a copy of them, for the span to have.
    """
    if parameters is not None or type(connection) is not Connection:
        made: dict[str, Any] = _describe(connection, query, parameters, **more)
        return made
    known = connection.described
    found = known.get(query)
    if found is None:
        if len(known) >= _MOST_DESCRIBED:
            known.clear()
        found = known[query] = _describe(connection, query, None, **more)
    return found.copy()


def _instrumentor() -> Any:
    """The process's one AsyncPGInstrumentor."""
    make: Any = AsyncPGInstrumentor
    return make()
