"""Why an execution ended as it did: its cause, the line, the data it changed, who wrote what it tripped over,
what to do.
"""

from __future__ import annotations

from typing import Any

from asyncpg import Connection
from msgspec.structs import replace

from flux.compare import compare
from flux.compare.telling import telling
from flux.query import cause as causes
from flux.query import foreign, nearest, provenance, trace
from flux.query.cause import Cause
from flux.query.facts import Facts, Route
from flux.query.find import Found
from flux.query.queries import Q
from flux.query.source import locate
from flux.query.suggest import suggest
from flux.shapes.record import Span, Trace
from flux.shapes.why import Change, Location, RootCause, Share, Step, Why

_SLOWEST = 5


async def load(connection: Connection[Any], found: Found) -> Why:
    """Why an execution ended as it did."""
    document = await trace.load(connection, found)
    cause = causes.find(document)
    told = Why(
        execution=document.execution,
        root_cause=None,
        location=None,
        input=document.input,
        data_changes=sorted(
            (mutation for each in causes.every(document) for mutation in each.mutations), key=lambda m: m.n
        ),
        provenance=[],
        previous_success=None,
        first_difference=None,
        suggestions=[],
        failed=cause is not None,
        refused=cause is not None and document.outcome == "ok",
        output=document.output,
        request=document.request,
        chain=[],
        failing_call=None,
        survived=[call for call in document.host_calls if call.error is not None],
        differences=[],
        slowest=slowest(document),
        warnings=document.warnings,
        deployment_changed=None,
    )
    return told if cause is None else await _explained(connection, document, cause, told)


async def _explained(connection: Connection[Any], document: Trace, cause: Cause, told: Why) -> Why:
    """`told` with what there is to say of a failure."""
    told = replace(
        told,
        root_cause=RootCause(
            type=cause.type,
            message=cause.message,
            span_id=cause.span_id,
            request_id=cause.document.request_id,
        ),
        location=await _location(connection, cause.document),
        chain=[_step(span) for span in cause.chain],
        failing_call=cause.call,
        survived=cause.earlier,
        provenance=await provenance.load(connection, cause),
    )
    if document.outcome != "rejected":
        told = await _compared(connection, document, told)
    if told.refused or document.record == foreign.ALONE:
        return told
    error = None if cause.call is None else cause.call.error
    routes = [Route(*row) for row in await connection.fetch(Q.routes)]
    facts = Facts(cause, document, {} if error is None else error.detail, routes)
    return replace(told, suggestions=suggest(facts))


def _step(span: Span) -> Step:
    return Step(
        span_id=span.span_id,
        name=span.name,
        kind=span.kind,
        status=span.status,
        duration_ms=span.duration_ms,
    )


async def _location(connection: Connection[Any], document: Trace) -> Location | None:
    if document.error is None or not document.error.file:
        return None
    bundle = await connection.fetchval(Q.bundle, document.deployment) if document.deployment else None
    return locate(document.error, bundle)


async def _compared(connection: Connection[Any], document: Trace, told: Why) -> Why:
    """`told` with the success that is nearest to this failure, and how they differ in what two successes
    share.
    """
    if not document.function:
        return told
    near = await nearest.successes(connection, document, 2)
    if not near:
        return told
    success = near[0]
    ordinary = compare(near[1], success) if len(near) > 1 else None
    found = telling(compare(success, document), ordinary)
    changed = success.deployment != document.deployment
    return replace(
        told,
        previous_success=success.request_id,
        differences=found,
        first_difference=next(iter(found), None),
        deployment_changed=Change(a=success.deployment, b=document.deployment) if changed else None,
    )


def slowest(document: Trace) -> list[Share]:
    """The spans that took most of the time themselves, the longest first."""
    total = document.duration_ms or 0.0
    inside: dict[str | None, float] = {}
    for span in document.spans:
        inside[span.parent_span_id] = inside.get(span.parent_span_id, 0.0) + span.duration_ms
    own = [(max(0.0, span.duration_ms - inside.get(span.span_id, 0.0)), span) for span in document.spans]
    own.sort(key=lambda part: -part[0])
    return [
        Share(
            name=span.name,
            span_id=span.span_id,
            duration_ms=span.duration_ms,
            self_ms=self_ms,
            share=self_ms / total if total else 0.0,
        )
        for self_ms, span in own[:_SLOWEST]
    ]
