"""A host call in one line: what was asked, what came of it."""

from __future__ import annotations

from typing import Any

from flux.cli.render.ansi import Text
from flux.cli.render.safe import safe
from flux.cli.render.values import compact, duration, plural, short, shortened, sql
from flux.record import ops
from flux.shapes.record import CallFailure, HostCall

ARGUMENTS = 60
"""Cells that arguments take at most."""

STYLES = {
    "db": "blue",
    "fetch": "magenta",
    "queue": "cyan",
    "invoke": "green",
    "secrets": "yellow",
    "sleep": "grey",
}


def style_of(op: str) -> str:
    """The colour of a kind of call."""
    return STYLES.get(op.partition(".")[0], "cyan")


def label(call: HostCall) -> Text:
    """What a call asked for and what it got."""
    return asked(call).join(outcome(call))


def asked(call: HostCall) -> Text:
    """What a call asked for."""
    arguments: dict[str, Any] = call.arguments if isinstance(call.arguments, dict) else {}
    return ASKED.get(call.op, _other)(call.op, arguments, style_of(call.op))


def outcome(call: HostCall) -> Text:
    """What a call got, behind an arrow; empty where there is nothing to say."""
    answer: Any = call.result
    line = Text()
    got = _outcome(call, answer if isinstance(answer, dict) else {})
    if got:
        line.add(" → ", "dim").join(got)
    if call.status == "unknown":
        line.add("  sent, answer unknown", "bold magenta")
    elif call.status == "abandoned":
        line.add("  abandoned", "yellow")
    return line


def family(call: HostCall) -> str:
    """What makes two calls 'the same again': their op and what they ask, values apart."""
    given: dict[str, Any] = call.arguments if isinstance(call.arguments, dict) else {}
    named = (given.get(name) for name in ("operation", "table", "text", "method", "name", "key"))
    where = str(given.get("url", "")).partition("?")[0].rpartition("/")[0]
    return "\0".join([call.op, where, *(str(part) for part in named if part is not None)])


def failure(error: CallFailure, cells: int) -> list[Text]:
    """A failed call's error, and what the server said besides."""
    lines = [
        Text.of((f"✗ {shortened(error.type, 200)}", "bold red"), (f"  {shortened(error.message)}", "red"))
    ]
    for name in ("detail", "hint"):
        if error.detail.get(name):
            lines.append(Text.of((f"  {shortened(str(error.detail[name]))}", "dim")))
    return [line.cut(cells) for line in lines]


def _query(_op: str, asked: dict[str, Any], style: str) -> Text:
    operation = str(asked.get("operation") or "select")
    line = Text.of((safe(operation), f"bold {style}"), (f" {safe(str(asked.get('table')))}", ""))
    if asked.get("data") not in (None, {}, []):
        line.add(" ").add(compact(asked["data"], ARGUMENTS), "dim")
    if asked.get("filters") not in (None, {}, []):
        line.add(" where ", style).add(compact(asked["filters"], ARGUMENTS), "dim")
    return line


def _sql(_op: str, asked: dict[str, Any], style: str) -> Text:
    verb, _, rest = sql(str(asked.get("text") or "")).partition(" ")
    line = Text.of((verb, f"bold {style}"), (f" {rest}" if rest else "", ""))
    if asked.get("params"):
        line.add(" ").add(compact(asked["params"], ARGUMENTS), "dim")
    return line


def _begin(_op: str, asked: dict[str, Any], style: str) -> Text:
    line = Text.of(("transaction", f"bold {style}"))
    return line.add(f" {safe(str(asked['isolation']))}", "dim") if asked.get("isolation") else line


def _control(op: str, _asked: dict[str, Any], style: str) -> Text:
    return Text.of((op.partition(".")[2], f"bold {style}"))


def _fetch(_op: str, asked: dict[str, Any], style: str) -> Text:
    return Text.of(
        (safe(str(asked.get("method") or "GET")), f"bold {style}"), (f" {safe(str(asked.get('url')))}", "")
    )


def _push(_op: str, asked: dict[str, Any], style: str) -> Text:
    return Text.of(("push ", f"bold {style}"), (safe(str(asked.get("name"))), ""), (" ", "")).add(
        compact(asked.get("payload"), ARGUMENTS), "dim"
    )


def _invoke(_op: str, asked: dict[str, Any], style: str) -> Text:
    return Text.of(("invoke ", f"bold {style}"), (safe(str(asked.get("name"))), ""), (" ", "")).add(
        compact(asked.get("payload"), ARGUMENTS), "dim"
    )


def _secret(_op: str, asked: dict[str, Any], style: str) -> Text:
    return Text.of(("secret ", f"bold {style}"), (safe(str(asked.get("key"))), ""))


def _sleep(_op: str, asked: dict[str, Any], style: str) -> Text:
    ms = asked.get("ms")
    return Text.of(("sleep ", f"bold {style}"), (duration(ms) if isinstance(ms, (int, float)) else "", ""))


def _other(op: str, asked: dict[str, Any], style: str) -> Text:
    return Text.of((safe(op), f"bold {style}"), (" ", "")).add(compact(asked, ARGUMENTS), "dim")


ASKED = {
    ops.DB_QUERY: _query,
    ops.DB_SQL: _sql,
    ops.DB_BEGIN: _begin,
    ops.DB_COMMIT: _control,
    ops.DB_ROLLBACK: _control,
    ops.FETCH: _fetch,
    ops.QUEUE_PUSH: _push,
    ops.INVOKE: _invoke,
    ops.SECRETS_GET: _secret,
    ops.SLEEP: _sleep,
}
"""What tells each kind of call in words."""


def _outcome(call: HostCall, result: dict[str, Any]) -> Text | None:
    op = call.op
    if call.error is not None:
        return None
    if op in ops.GIVES_ROWS:
        count = result.get("count")
        if count is None and isinstance(result.get("rows"), list):
            count = len(result["rows"])
        if isinstance(count, str) and count.isdigit():
            count = int(count)
        return Text.of((plural(count, "row"), "dim")) if isinstance(count, int) else None
    if op == ops.FETCH and isinstance(result.get("status"), int):
        bad = result["status"] >= 400
        return Text.of((str(result["status"]), "red" if bad else "green"))
    if op == ops.QUEUE_PUSH and result.get("id") is not None:
        twice = " (was there already)" if result.get("duplicate") else ""
        return Text.of((f"job {safe(short(str(result['id'])))}{twice}", "dim"))
    if op == ops.SECRETS_GET and "found" in result:
        version = f"version {result['version']}" if result.get("version") is not None else "found"
        return Text.of(
            (safe(version) if result["found"] else "not found", "dim" if result["found"] else "yellow")
        )
    if op == ops.INVOKE and call.result is not None:
        return Text.of((compact(call.result, ARGUMENTS), "dim"))
    return None
