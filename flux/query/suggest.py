"""What to do about a failure: a small catalogue, keyed by what failed, filled in with the names at hand.

A suggestion is offered only where the record supports its reason. Pure: works on a cause and the routes.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flux.query.cause import Cause
from flux.query.shapes import Shape


@dataclass(frozen=True, slots=True)
class Route:
    """Where a function is served now."""

    function: str
    route: str
    method: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What a suggestion may draw on.

    Attributes:
        cause: of the failure.
        execution: the trace shape that was asked about.
        detail: of the failing call's error: sqlstate, constraint, table, column, detail...
        routes: those served now.
    """

    cause: Cause
    execution: Shape
    detail: Mapping[str, str]
    routes: Sequence[Route]

    @property
    def table(self) -> str:
        """The table the server named, or a word for it."""
        return self.detail.get("table") or "the table"

    @property
    def key(self) -> tuple[str, str] | None:
        """Columns and values in the server's `Key (a)=(b)`."""
        match = re.match(r"Key \((.+?)\)=\((.*)\) ", self.detail.get("detail") or "")
        return (match[1], match[2]) if match else None


Suggestion = dict[str, str]
Advice = Callable[[Facts], list[Suggestion]]


def suggest(facts: Facts) -> list[Suggestion]:
    """Suggestions for a failure, the most telling first; `{text, reason}`."""
    for name in (
        facts.cause.type,
        facts.detail.get("sqlstate"),
        facts.execution["outcome"],
        facts.execution["status"],
    ):
        advice = _CATALOGUE.get(str(name))
        found = advice(facts) if advice is not None else []
        if found:
            return found
    return []


def _one(text: str, reason: str) -> list[Suggestion]:
    return [{"text": text, "reason": reason}]


def _unique(facts: Facts) -> list[Suggestion]:
    key = facts.key
    columns = key[0] if key else "the constrained columns"
    constraint = facts.detail.get("constraint") or "a unique constraint"
    reason = (
        f"`{facts.table}` already has a row with {key[0]} = {key[1]}, and `{constraint}` allows one."
        if key
        else f"`{constraint}` allows only one such row."
    )
    return [
        *_one(
            f"Insert into `{facts.table}` with `on_conflict` on ({columns}), or look for the row first.",
            reason,
        ),
        *_one(
            "Or catch the error where `error.type` is `unique_violation` and answer 409.",
            "A client may send the same request twice; that is no failure of the server's.",
        ),
    ]


def _not_null(facts: Facts) -> list[Suggestion]:
    column = facts.detail.get("column") or "the column"
    given = facts.execution["input"]
    absent = isinstance(given, dict) and column not in given
    return _one(
        f"Give `{facts.table}.{column}` a value, a default in the schema, or refuse the input without it.",
        f"The input has no `{column}`, and `{facts.table}.{column}` is NOT NULL."
        if absent
        else f"`{facts.table}.{column}` is NOT NULL and the statement gave it null.",
    )


def _foreign_key(facts: Facts) -> list[Suggestion]:
    detail = facts.detail.get("detail") or ""
    key = facts.key
    other = re.search(r'table "([^"]+)"', detail)
    named = f"{key[0]} = {key[1]}" if key else "that key"
    if "still referenced" in detail and other:
        return _one(
            f"Delete the rows of `{other[1]}` first, or declare the foreign key ON DELETE CASCADE.",
            f"Rows of `{other[1]}` still point at {named}.",
        )
    target = other[1] if other else "the referenced table"
    return [
        *_one(
            f"Insert into `{target}` before `{facts.table}`, in one transaction.",
            f"`{target}` has no row for {named}.",
        ),
        *(
            _one(
                f'See what became of it: flux state history {target} --id "{key[1]}"',
                "A row that was there may have been deleted.",
            )
            if key and "," not in key[0]
            else []
        ),
    ]


def _check(facts: Facts) -> list[Suggestion]:
    constraint = facts.detail.get("constraint") or "a check constraint"
    return _one(
        f"Check the input against `{constraint}` before writing to `{facts.table}`.",
        f"The row broke `{constraint}`: {facts.detail.get('detail') or 'its values are not allowed'}",
    )


def _undefined_table(facts: Facts) -> list[Suggestion]:
    return _one(
        "Put the table into a file under schema/ and run `flux db push`.",
        f"The schema in the database is older than the code: {facts.cause.message}.",
    )


def _undefined_column(facts: Facts) -> list[Suggestion]:
    return _one(
        "Correct the column's name, or add it in a file under schema/ and run `flux db push`.",
        facts.detail.get("hint") or f"{facts.cause.message[:1].upper()}{facts.cause.message[1:]}.",
    )


def _conflict(facts: Facts) -> list[Suggestion]:
    return _one(
        "Run the transaction again: the same work will most likely go through.",
        "Two transactions wanted the same rows at the same time; Postgres ended one of them.",
    )


def _deadline(facts: Facts) -> list[Suggestion]:
    calls = facts.execution["host_calls"]
    open_calls = [call for call in calls if call["status"] in ("abandoned", "unknown")]
    slowest = max((c for c in calls if c["duration_ms"]), key=lambda c: c["duration_ms"], default=None)
    took = f"{facts.execution['duration_ms'] or 0:,.0f} ms"
    if open_calls:
        reason = f"After {took} it still waited for {_name(open_calls[0])}."
    elif slowest is not None:
        reason = f"Its slowest call, {_name(slowest)}, took {slowest['duration_ms']:,.0f} of {took}."
    else:
        reason = f"It made no call that took long: {took} went into its own code, a loop perhaps."
    text = f'Raise "timeout_ms" in functions/{facts.execution["function"]}/flux.json, or use a job.'
    return _one(text, reason)


def _connect(facts: Facts) -> list[Suggestion]:
    url = _url(facts)
    return _one(
        f"Check that {_host(url)} is up and that its address is right.",
        f"Nothing answered at {url}: {facts.cause.message}",
    )


def _fetch_timeout(facts: Facts) -> list[Suggestion]:
    call = facts.cause.call
    if call is None or call["op"] != "fetch":
        return _deadline(facts)
    took = f" for {call['duration_ms']:,.0f} ms" if call["duration_ms"] else ""
    if isinstance(call["arguments"], dict) and call["arguments"].get("timeout"):
        return _one(
            f"Give {_host(_url(facts))} longer, or move the request to a job, which tries again.",
            f"The function waited{took}, as long as it allows; what it asked for may still have been done.",
        )
    return _one(
        f"Give the request to {_host(_url(facts))} a time limit and a fallback, or move it to a job.",
        f"The function waited{took} for {_url(facts)}.",
    )


def _dns(facts: Facts) -> list[Suggestion]:
    return _one(f"Check the host name `{_host(_url(facts))}`.", f"It has no address: {facts.cause.message}")


def _tls(facts: Facts) -> list[Suggestion]:
    return _one(
        f"Check the certificate of {_host(_url(facts))}, and whether the address should be http.",
        f"No secure connection could be made: {facts.cause.message}",
    )


def _secret(facts: Facts) -> list[Suggestion]:
    arguments = facts.cause.call["arguments"] if facts.cause.call else {}
    key = arguments.get("key", "the secret") if isinstance(arguments, dict) else "the secret"
    return _one(
        f'Add `{key}=...` to .env (see .env.example), or pass a fallback: secrets.get("{key}", fallback).',
        f"The function asked for the secret `{key}`, and there is none.",
    )


def _no_route(facts: Facts) -> list[Suggestion]:
    path = facts.execution["path"] or "/"
    routes = [route.route for route in facts.routes]
    close = difflib.get_close_matches(path, routes, n=1, cutoff=0.5)
    if close:
        route = next(route for route in facts.routes if route.route == close[0])
        return _one(
            f"Did you mean {route.method} {route.route}?",
            f"`{route.function}` is served there; nothing is at {path}.",
        )
    listed = ", ".join(f"{route.method} {route.route}" for route in facts.routes[:8]) or "none yet"
    return _one(
        f"Create functions/{path.strip('/').split('/')[0] or 'name'}/index.ts, or use a route that is there.",
        f"Routes: {listed}.",
    )


def _wrong_method(facts: Facts) -> list[Suggestion]:
    path, method = facts.execution["path"] or "/", facts.execution["method"]
    allowed = [route for route in facts.routes if _fits(route.route, path)]
    if not allowed:
        return []
    route, methods = allowed[0], ", ".join(sorted({each.method for each in allowed}))
    return _one(
        f'Send {route.method} {path}, or set "method": "{method}" in functions/{route.function}/flux.json.',
        f"`{route.function}` takes {methods} at {route.route}, not {method}.",
    )


def _too_large(facts: Facts) -> list[Suggestion]:
    size = facts.execution.get("body_size")
    return _one(
        "Raise `body_limit` in flux.toml, or send less.",
        f"The body has {size:,} bytes." if size else "The body is larger than the project allows.",
    )


def _bad_request(facts: Facts) -> list[Suggestion]:
    return _one(
        "Send valid JSON (with curl: -H 'content-type: application/json' -d '{\"name\": \"value\"}').",
        facts.cause.message,
    )


def _validation(facts: Facts) -> list[Suggestion]:
    fields = (facts.execution["error"] or {}).get("fields") or {}
    if not fields:
        return []
    return _one(
        f"Correct {', '.join(f'`{name}`' for name in fields)} in the request.",
        "; ".join(f"{name}: {problem}" for name, problem in fields.items()),
    )


def _interrupted(facts: Facts) -> list[Suggestion]:
    if (facts.execution["error"] or {}).get("type") == "NodeSilent":
        return _one(
            f"Bring the spool of node {facts.execution['node']} back before you send the request again.",
            "It may have ended well and been answered: its record has not been drained.",
        )
    unknown = [call for call in facts.execution["host_calls"] if call["status"] == "unknown"]
    if unknown:
        return _one(
            f"Find out whether {_name(unknown[-1])} was carried out before you send the request again.",
            "It had been sent when the process ended, and its answer was never seen.",
        )
    return _one(
        "Send the request again.", "The process ended in mid-flight; no call was left without an answer."
    )


def _guest_died(facts: Facts) -> list[Suggestion]:
    message = facts.cause.message
    if "memory" in message:
        return _memory(facts)
    if "blocked past a deadline" in message:
        text = (
            "Look for the request that computed without a pause: flux tail --failed shows a 504 just before."
        )
        return _one(text, "It ran in the same process, which had to be killed; this one only shared it.")
    if "broke the protocol" in message or "closed its connection" in message:
        text = "Look for what writes to or closes descriptors that it did not open."
    else:
        text = "Look for what ends the process: an exit in the code, or a crash of a native extension."
    return _one(text, f"{message} Other requests in flight in it ended too.")


def _memory(facts: Facts) -> list[Suggestion]:
    if "memory_mb" not in facts.cause.message and facts.cause.type != "GuestDied":
        return []
    return _one(
        "Hold less at once (page through rows, let go of what module-level variables keep), or raise "
        "`memory_mb` in flux.toml.",
        facts.cause.message,
    )


def _overloaded(facts: Facts) -> list[Suggestion]:
    return _one(
        "Raise `concurrency` in flux.toml, or run another server on the same Postgres.",
        "The function's process had no room for another invocation.",
    )


def _null_access(facts: Facts) -> list[Suggestion]:
    empty = [
        call
        for call in facts.cause.document["host_calls"]
        if call["op"] in ("db.query", "db.sql")
        and isinstance(call["result"], dict)
        and call["result"].get("rows") == []
    ]
    if not empty or not re.search(
        r"undefined|null|None|not iterable|not subscriptable|list index", facts.cause.message
    ):
        return []
    return _one(
        f"Handle the case in which {_name(empty[-1])} finds nothing.",
        "It returned no rows, and the code used a row as if there were one.",
    )


def _name(call: Shape) -> str:
    arguments: Any = call["arguments"] if isinstance(call["arguments"], dict) else {}
    if call["op"] == "fetch":
        return f"{arguments.get('method', 'GET')} {arguments.get('url', '')}"
    if call["op"] == "db.query":
        return f"{arguments.get('operation', 'select')} on `{arguments.get('table')}` (call {call['seq']})"
    if call["op"] == "queue.push":
        return f"the push of `{arguments.get('name')}`"
    if call["op"] == "invoke":
        return f"the invocation of `{arguments.get('name')}`"
    return f"{call['op']} (call {call['seq']})"


def _url(facts: Facts) -> str:
    arguments = facts.cause.call["arguments"] if facts.cause.call else None
    return str(arguments.get("url")) if isinstance(arguments, dict) else "the address"


def _host(url: str) -> str:
    match = re.match(r"[a-z]+://([^/?#]+)", url)
    return match[1] if match else url


def _fits(route: str, path: str) -> bool:
    pattern = re.sub(r"\\\{[^}]*\\\}", "[^/]+", re.escape(route))
    return re.fullmatch(pattern, path) is not None


_CATALOGUE: dict[str, Advice] = {
    "unique_violation": _unique,
    "23505": _unique,
    "not_null_violation": _not_null,
    "23502": _not_null,
    "foreign_key_violation": _foreign_key,
    "23503": _foreign_key,
    "check_violation": _check,
    "23514": _check,
    "undefined_table": _undefined_table,
    "42P01": _undefined_table,
    "undefined_column": _undefined_column,
    "42703": _undefined_column,
    "serialization_failure": _conflict,
    "deadlock_detected": _conflict,
    "40001": _conflict,
    "40P01": _conflict,
    "DeadlineExceeded": _deadline,
    "504": _deadline,
    "timeout": _fetch_timeout,
    "TimeoutError": _fetch_timeout,
    "ConnectError": _connect,
    "DNSError": _dns,
    "TLSError": _tls,
    "secret_not_found": _secret,
    "404": _no_route,
    "405": _wrong_method,
    "413": _too_large,
    "400": _bad_request,
    "422": _validation,
    "interrupted": _interrupted,
    "GuestDied": _guest_died,
    "MemoryError": _memory,
    "RangeError": _memory,
    "Overloaded": _overloaded,
    "TypeError": _null_access,
    "KeyError": _null_access,
    "IndexError": _null_access,
    "AttributeError": _null_access,
}
