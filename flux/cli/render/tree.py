"""A trace shape as one tree: spans merged with their host calls, logs and mutations where they happened,
children within.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from flux.cli.render import calls
from flux.cli.render.ansi import Text
from flux.cli.render.safe import safe
from flux.cli.render.values import compact, duration, short, status
from flux.query.cause import is_error, span_error
from flux.record import ops
from flux.shapes.record import CallFailure, Execution, HostCall, LogLine, Mutation, Span, Trace

DEEPEST = 60
"""Levels of spans that a tree shows."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LEVELS = {"debug": "grey", "info": "cyan", "warn": "yellow", "error": "red"}
_STYLES = {"SERVER": "green", "CONSUMER": "green", "CLIENT": "blue", "PRODUCER": "cyan"}


@dataclass
class Node:
    """One line of the tree, what stands under it, and when it was.

    Attributes:
        label: what it was; suffix: how it ended, which stays when the label is cut.
        start_ms: since the root began; duration_ms: None for a moment (a log line) or where it never ended.
        style: of its bar.
        family: nodes of one family beside each other are 'the same again'.
        error: of a failed call or span, as `{type, message, detail}`.
        changes: mutations it made.
        apart: it happened outside of the root's time, so it has no bar.
    """

    label: Text
    start_ms: float
    duration_ms: float | None
    style: str = "green"
    family: str = ""
    error: CallFailure | None = None
    changes: list[Mutation] = field(default_factory=list)
    children: list[Node] = field(default_factory=list)
    order: int = 0
    suffix: Text = field(default_factory=Text)
    apart: bool = False

    @property
    def failed(self) -> bool:
        """Whether it, or something below it, failed."""
        return self.error is not None or any(child.failed for child in self.children)

    @property
    def end_ms(self) -> float:
        """When it, or the last thing below it, ended."""
        own = self.start_ms + (self.duration_ms or 0.0)
        return max([own, *(child.end_ms for child in self.children if not child.apart)])


def build(document: Trace, origin_ns: int | None = None) -> Node:
    """The tree of an execution.

    Args:
        document: a trace shape.
        origin_ns: the moment that counts as 0, nanoseconds since the epoch; its own start by default.
    """
    return _Builder(document, origin_ns).build()


class _Builder:
    def __init__(self, document: Trace, origin_ns: int | None) -> None:
        self._document = document
        starts = [span.start_ns for span in document.spans]
        self._origin = origin_ns if origin_ns is not None else min([_epoch_ns(document.started_at), *starts])
        self._spans: dict[str, Node] = {}
        self._calls: dict[int, Node] = {}
        self._unclaimed = list(document.children)

    def build(self) -> Node:
        document = self._document
        of_span: dict[str, HostCall] = {}
        for call in document.host_calls:
            if call.span_id and call.op not in ops.ENDS_TRANSACTION:
                of_span.setdefault(call.span_id, call)
        for span in document.spans:
            node = self._span(span, of_span.get(span.span_id))
            self._spans[span.span_id] = node
        root = self._root()
        self._grow(root)
        home = self._home(root)
        for call in document.host_calls:
            self._place(call, of_span, home)
        for call in document.host_calls:
            if call.op == "invoke":
                self._adopt(call)
            elif call.op == "queue.push":
                self._link(call)
        for child in self._unclaimed:
            home.children.append(self._job(child) if child.trigger == "job" else build(child, self._origin))
        for line in document.logs:
            self._spans.get(line.span_id or "", home).children.append(self._log(line))
        self._changes(home)
        _sort(root)
        return root

    def _root(self) -> Node:
        known = self._spans.get(self._document.span_id or "")
        if known is not None:
            return known
        document = self._document
        what = " ".join(part for part in (document.method, document.path) if part)
        name = what or f"{document.trigger or 'unrecorded'} {document.function or ''}".strip()
        start = self._since(document.started_at)
        return Node(Text.of((safe(name), "bold")), start, document.duration_ms)

    def _since(self, moment: str) -> float:
        """Milliseconds from the origin to a moment."""
        return (_epoch_ns(moment) - self._origin) / 1e6

    def _grow(self, root: Node) -> None:
        """Hang each span under its parent; one whose parent is missing, or that is its own ancestor, under
        the root.

        What lies deeper than DEEPEST is shown at that depth.
        """
        below: dict[str, list[str]] = {}
        for span in self._document.spans:
            below.setdefault(span.parent_span_id or "", []).append(span.span_id)
        top = self._document.span_id or ""
        hung = {top}
        orphans = [
            span.span_id for span in self._document.spans if (span.parent_span_id or "") not in self._spans
        ]
        queue = [(top, root, 1)]
        for start in [None, *orphans, *self._spans]:
            if start is not None and start not in hung:
                hung.add(start)
                root.children.append(self._spans[start])
                queue.append((start, self._spans[start], 2))
            while queue:
                span_id, node, depth = queue.pop()
                for child_id in below.get(span_id, ()):
                    if child_id not in hung:
                        hung.add(child_id)
                        child = self._spans[child_id]
                        node.children.append(child)
                        queue.append((child_id, child if depth < DEEPEST else node, depth + 1))

    def _home(self, root: Node) -> Node:
        """The function's own span: where a call without a known parent belongs."""
        for span in self._document.spans:
            if span.parent_span_id == self._document.span_id and "faas.invocation_id" in span.attributes:
                return self._spans[span.span_id]
        return root

    def _span(self, span: Span, call: HostCall | None) -> Node:
        start = (span.start_ns - self._origin) / 1e6
        if call is not None:
            node = self._call(call)
            node.start_ms, node.duration_ms = start, span.duration_ms
            self._calls[call.seq] = node
        else:
            style = "bold" if span.kind in ("SERVER", "CONSUMER", "INTERNAL") else ""
            label = Text.of((safe(span.name), style))
            node = Node(label, start, span.duration_ms, _STYLES.get(span.kind, "green"), f"span\0{span.name}")
        if is_error(span) and node.error is None:
            kind, message = span_error(span)
            node.error = CallFailure(type=kind, message=message)
        return node

    def _call(self, call: HostCall) -> Node:
        start = self._since(call.at)
        style = calls.style_of(call.op)
        node = Node(calls.asked(call), start, call.duration_ms, style, calls.family(call), call.error)
        node.order = call.seq
        node.suffix = self._ending(call) if call.op == "db.begin" else calls.outcome(call)
        return node

    def _ending(self, begin: HostCall) -> Text:
        """How a transaction ended, said behind its name."""
        ends = [
            call
            for call in self._document.host_calls
            if call.tx == begin.seq and call.op in ops.ENDS_TRANSACTION
        ]
        if not ends:
            return Text.of(("  never committed", "red"))
        end = ends[-1]
        if end.op == "db.rollback":
            return Text.of(("  rolled back", "red"))
        if end.status == "unknown":
            return Text.of(("  commit sent, answer unknown", "bold magenta"))
        return Text.of(("  commit failed", "bold red")) if end.error else Text.of(("  committed", "green"))

    def _place(self, call: HostCall, of_span: dict[str, HostCall], home: Node) -> None:
        """Find a node for a call that has no span of its own."""
        seq, begin = call.seq, self._calls.get(call.tx) if call.tx is not None else None
        if seq in self._calls:
            return
        if call.op in ops.ENDS_TRANSACTION and begin is not None:
            self._calls[seq] = begin
            if call.error is not None:
                begin.error = call.error
            return
        node = self._call(call)
        self._calls[seq] = node
        parent = begin or self._spans.get(call.parent_span_id or "") or home
        shared = of_span.get(call.span_id or "")
        if shared is not None and shared is not call and shared.seq in self._calls:
            parent = self._calls[shared.seq]
        parent.children.append(node)

    def _adopt(self, call: HostCall) -> None:
        """Put the execution that a call invoked under it."""
        asked = call.arguments if isinstance(call.arguments, dict) else {}
        said = None if call.error is None else call.error.detail.get("request_id")
        for child in self._unclaimed:
            if child.request_id == said or (said is None and child.function == asked.get("name")):
                self._unclaimed.remove(child)
                tree = build(child, self._origin)
                tree.label.add(f"  {short(child.request_id)}", "dim")
                self._calls[call.seq].children.append(tree)
                return

    def _link(self, call: HostCall) -> None:
        """Name, under a push, the executions of the job that came of it."""
        answer = call.result
        job_id = answer.get("id") if isinstance(answer, dict) else None
        for child in [child for child in self._unclaimed if job_id is not None and child.job_id == job_id]:
            self._unclaimed.remove(child)
            self._calls[call.seq].children.append(self._job(child))

    def _job(self, child: Execution) -> Node:
        """A job's execution in one line: it ran on its own, so its time is no part of this one's."""
        label = Text.of(("ran as ", "dim")).add(short(child.request_id), "yellow").add("  ")
        label.join(status(child.status, child.outcome)).add(f"  {duration(child.duration_ms)}", "dim")
        if (child.job_attempt or 1) > 1:
            label.add(f"  attempt {child.job_attempt}", "dim")
        start = self._since(child.started_at)
        return Node(label, start, None, "", f"job\0{child.function}", apart=True)

    def _log(self, line: LogLine) -> Node:
        style = _LEVELS.get(line.level, "cyan")
        label = Text.of((f"{safe(line.level)}", style), (f" {safe(line.message)}", ""))
        if line.fields:
            label.add(" ").add(compact(line.fields, calls.ARGUMENTS), "dim")
        return Node(
            label,
            self._since(line.at),
            None,
            style,
            f"log\0{line.level}",
            order=line.seq,
        )

    def _changes(self, home: Node) -> None:
        of_xid: dict[Any, Node] = {}
        for call in self._document.host_calls:
            if call.op == "db.begin" and call.xid is not None:
                of_xid[call.xid] = self._calls[call.seq]
        for mutation in self._document.mutations:
            made = self._calls.get(mutation.seq) if mutation.seq is not None else None
            (made or of_xid.get(mutation.xid) or home).changes.append(mutation)


def _epoch_ns(moment: str) -> int:
    return (datetime.fromisoformat(moment) - _EPOCH) // _MICROSECOND * 1000


def _sort(node: Node) -> None:
    stack = [node]
    while stack:
        current = stack.pop()
        current.children.sort(key=lambda child: (child.start_ms, child.order))
        stack.extend(current.children)
