"""The page that `flux trace` prints: what it was, where its time went, what it changed, what came in and what
went out.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any

from flux.cli.render.ansi import Text
from flux.cli.render.safe import safe, wrap
from flux.cli.render.tree import build
from flux.cli.render.values import ago, clock, compact, duration, plural, short, shortened, status, warning
from flux.cli.render.waterfall import waterfall
from flux.query import foreign
from flux.record import ops
from flux.shapes.record import Execution, Failure, Json, Trace

_LABEL = 9


def page(document: Trace, cells: int, now: datetime, *, full: bool = False) -> list[Text]:
    """A trace shape as lines.

    Args:
        document: the trace shape.
        cells: width of a line.
        now: for "3 min ago", and the zone that times are shown in.
        full: True folds and cuts nothing.
    """
    lines = [*header(document, cells, now), Text()]
    lines += waterfall(build(document), cells, full=full)
    lines += [Text(), *_ends(document, cells, full)]
    return lines


def header(document: Trace, cells: int, now: datetime) -> list[Text]:
    """Two lines that say what an execution was and how it ended."""
    first = status(document.status, document.outcome).add("  ")
    first.add(title(document), "bold")
    first.add(f"  {duration(document.duration_ms)}" if document.duration_ms is not None else "")
    first.add("  ").add(short(document.request_id), "yellow")
    facts = [f"{clock(document.started_at, now)} ({ago(document.started_at, now)})"]
    if document.function and document.function not in title(document):
        facts.append(f"function {safe(document.function)}")
    if document.trigger not in ("http", None):
        facts.append(safe(document.trigger))
    if document.answered_ms is not None:
        facts.append(f"answered after {duration(document.answered_ms)}")
    if document.job_id:
        facts.append(f"job {safe(short(document.job_id))} attempt {document.job_attempt or 1}")
    if document.deployment:
        facts.append(f"deployment {short(document.deployment)}")
    if document.replay_of:
        facts.append(f"replay of {short(document.replay_of)}")
    if document.parent_request_id:
        facts.append(f"invoked by {short(document.parent_request_id)}")
    if document.count > 1:
        facts.append(f"{document.count} requests")
    tally = _tally(document)
    if tally:
        facts.append(tally)
    return [first.cut(cells), Text.of(("  " + " · ".join(facts), "dim")).cut(cells)]


def title(document: Execution) -> str:
    """`POST /users`; the function's name where no HTTP request began it; of spans alone the root's name."""
    if document.trigger == "replay":
        return safe(f"replay of {document.function}")
    if document.method:
        return safe(f"{document.method} {document.path or ''}".strip())
    name = document.function or document.trigger
    if name is None and isinstance(document, Trace):
        name = next((span.name for span in document.spans if span.span_id == document.span_id), None)
    return safe(name or "unrecorded")


def _tally(document: Trace) -> str:
    """`3 sql, 1 fetch, 2 rows changed`."""
    kinds: Counter[str] = Counter()
    for call in document.host_calls:
        op = call.op
        if op not in ops.CONTROLS_TRANSACTION:
            kinds["sql" if op in ops.DATABASE else op.partition(".")[0]] += 1
    parts = [f"{count} {kind}" for kind, count in kinds.items()]
    kept = sum(1 for mutation in document.mutations if not mutation.rolled_back)
    undone = len(document.mutations) - kept
    if kept:
        parts.append(f"{plural(kept, 'row')} changed")
    if undone:
        parts.append(f"{plural(undone, 'row')} rolled back")
    return ", ".join(parts)


def _ends(document: Trace, cells: int, full: bool) -> list[Text]:
    lines: list[Text] = []
    room = 10**9 if full else cells - _LABEL
    level = document.record
    told = [*error(document, cells), *(line for text in document.warnings for line in warning(text, cells))]
    if level == foreign.ALONE:
        text = "spans alone: a program that Flux does not run exported them"
        return [Text.of((f"{'record':{_LABEL}}", "bold"), (text, "dim")), *told]
    if level == "none" or (level == "errors" and document.outcome == "ok"):
        text = f"payloads, calls and spans were left out: record is `{level}`"
        return [Text.of((f"{'record':{_LABEL}}", "bold"), (text, "dim")), *told]
    incoming, body = document.input, document.request.body
    if incoming is not None or body is None:
        lines.append(_field("input", incoming, room))
    else:
        lines.append(_field("body", body, room))
    if full:
        lines += _headers("headers", document.request.headers)
    if document.outcome == "ok" or document.output is not None:
        lines.append(_field("output", document.output, room))
    if full:
        lines += _headers("answered", document.response_headers)
    for name, size in (("body", document.body_size), ("output", document.output_size)):
        if size is not None:
            lines.append(Text.of((f"{'':{_LABEL}}{name} was cut: it has {size:,} bytes", "dim")))
    return lines + told


def _headers(name: str, headers: dict[str, Json]) -> list[Text]:
    """Headers of a request or an answer, each on a line of its own."""
    pairs = [
        (key, value)
        for key, values in headers.items()
        for value in (values if isinstance(values, list) else [values])
    ]
    return [
        Text.of((f"{name if at == 0 else '':{_LABEL}}", "bold"), (f"{safe(key)}: ", "dim"), safe(str(value)))
        for at, (key, value) in enumerate(pairs)
    ]


def error(document: Trace, cells: int) -> list[Text]:
    """An execution's error and where it was thrown."""
    failure = document.error
    if failure is None:
        return []
    kind, message = shortened(failure.type, 200), shortened(failure.message)
    lines = []
    for at, part in enumerate(wrap(f"{kind}: {message}", cells - _LABEL)):
        lines.append(Text.of((f"{'error' if at == 0 else '':{_LABEL}}", "bold red"), (part, "red")))
    place = where(failure)
    if place:
        lines.append(Text.of((f"{'':{_LABEL}}at ", "dim"), (place, "cyan")))
    lines.append(Text.of((f"{'':{_LABEL}}", ""), (f"flux why {short(document.request_id)}", "dim")))
    return lines


def where(failure: Failure) -> str:
    """`functions/create_user/index.ts:6:18`, as far as it is known."""
    parts = [failure.file, failure.line, failure.column]
    return shortened(":".join(str(part) for part in parts if part is not None), 500) if failure.file else ""


def _field(name: str, value: Any, cells: int) -> Text:
    return Text.of((f"{name:{_LABEL}}", "bold"), (compact(value, cells), ""))
