"""What to do about a failure: a small catalogue, keyed by what failed, filled in with the names at hand.

A suggestion is offered only where the record supports its reason. Pure: works on a cause and the routes.
"""

from __future__ import annotations

import difflib
import re

from flux.query import database_advice
from flux.query.facts import Advice, Facts, in_words, one
from flux.record import ops
from flux.shapes.record import HostCall, Trace
from flux.shapes.why import Suggestion


def suggest(facts: Facts) -> list[Suggestion]:
    """Suggestions for a failure, the most telling first; `{text, reason}`."""
    for name in (
        facts.cause.type,
        facts.detail.get("sqlstate"),
        facts.execution.outcome,
        facts.execution.status,
    ):
        advice = _CATALOGUE.get(str(name))
        found = advice(facts) if advice is not None else []
        if found:
            return found
    return []


def _deadline(facts: Facts) -> list[Suggestion]:
    calls = facts.execution.host_calls
    waited = _waited(facts.execution)
    slowest = max(calls, key=lambda call: call.duration_ms or 0.0, default=None)
    took = f"{facts.execution.duration_ms or 0:,.0f} ms"
    if waited:
        reason = f"After {took} it still waited for {', and that for '.join(map(in_words, waited))}."
    elif slowest is not None and slowest.duration_ms:
        reason = f"Its slowest call, {in_words(slowest)}, took {slowest.duration_ms:,.0f} of {took}."
    else:
        reason = f"It made no call that took long: {took} went into its own code, a loop perhaps."
    text = f'Raise "timeout_ms" in functions/{facts.execution.function}/flux.json, or use a job.'
    return one(text, reason)


def _waited(execution: Trace) -> list[HostCall]:
    """The call that an execution was in when it ended; where that is an invoke, the one in there as well."""
    call = next((call for call in execution.host_calls if call.status in ("abandoned", "unknown")), None)
    if call is None:
        return []
    invoked = next((child for child in execution.children if child.span_id == call.span_id), None)
    return [call, *(_waited(invoked) if call.op == "invoke" and invoked is not None else ())]


def _connect(facts: Facts) -> list[Suggestion]:
    url = _url(facts)
    return one(
        f"Check that {_host(url)} is up and that its address is right.",
        f"Nothing answered at {url}: {facts.cause.message}",
    )


def _fetch_timeout(facts: Facts) -> list[Suggestion]:
    call = facts.cause.call
    if call is None or call.op != "fetch":
        return _deadline(facts)
    took = f" for {call.duration_ms:,.0f} ms" if call.duration_ms else ""
    if isinstance(call.arguments, dict) and call.arguments.get("timeout"):
        return one(
            f"Give {_host(_url(facts))} longer, or move the request to a job, which tries again.",
            f"The function waited{took}, as long as it allows; what it asked for may still have been done.",
        )
    return one(
        f"Give the request to {_host(_url(facts))} a time limit and a fallback, or move it to a job.",
        f"The function waited{took} for {_url(facts)}.",
    )


def _dns(facts: Facts) -> list[Suggestion]:
    return one(f"Check the host name `{_host(_url(facts))}`.", f"It has no address: {facts.cause.message}")


def _tls(facts: Facts) -> list[Suggestion]:
    return one(
        f"Check the certificate of {_host(_url(facts))}, and whether the address should be http.",
        f"No secure connection could be made: {facts.cause.message}",
    )


def _secret(facts: Facts) -> list[Suggestion]:
    arguments = facts.cause.call.arguments if facts.cause.call else {}
    key = arguments.get("key", "the secret") if isinstance(arguments, dict) else "the secret"
    return one(
        f'Add `{key}=...` to .env (see .env.example), or pass a fallback: secrets.get("{key}", fallback).',
        f"The function asked for the secret `{key}`, and there is none.",
    )


def _no_route(facts: Facts) -> list[Suggestion]:
    path = facts.execution.path or "/"
    routes = [route.route for route in facts.routes]
    close = difflib.get_close_matches(path, routes, n=1, cutoff=0.5)
    if close:
        route = next(route for route in facts.routes if route.route == close[0])
        return one(
            f"Did you mean {route.method} {route.route}?",
            f"`{route.function}` is served there; nothing is at {path}.",
        )
    listed = ", ".join(f"{route.method} {route.route}" for route in facts.routes[:8]) or "none yet"
    return one(
        f"Create functions/{path.strip('/').split('/')[0] or 'name'}/index.ts, or use a route that is there.",
        f"Routes: {listed}.",
    )


def _wrong_method(facts: Facts) -> list[Suggestion]:
    path, method = facts.execution.path or "/", facts.execution.method
    allowed = [route for route in facts.routes if _fits(route.route, path)]
    if not allowed:
        return []
    route, methods = allowed[0], ", ".join(sorted({each.method for each in allowed}))
    return one(
        f'Send {route.method} {path}, or set "method": "{method}" in functions/{route.function}/flux.json.',
        f"`{route.function}` takes {methods} at {route.route}, not {method}.",
    )


def _too_large(facts: Facts) -> list[Suggestion]:
    size = facts.execution.body_size
    return one(
        "Raise `body_limit` in flux.toml, or send less.",
        f"The body has {size:,} bytes." if size else "The body is larger than the project allows.",
    )


def _bad_request(facts: Facts) -> list[Suggestion]:
    return one(
        "Send valid JSON (with curl: -H 'content-type: application/json' -d '{\"name\": \"value\"}').",
        facts.cause.message,
    )


def _validation(facts: Facts) -> list[Suggestion]:
    fields = facts.execution.error and facts.execution.error.fields
    if not isinstance(fields, dict):
        return []
    return one(
        f"Correct {', '.join(f'`{name}`' for name in fields)} in the request.",
        "; ".join(f"{name}: {problem}" for name, problem in fields.items()),
    )


def _interrupted(facts: Facts) -> list[Suggestion]:
    if facts.execution.error is not None and facts.execution.error.type == "NodeSilent":
        return one(
            f"Bring the spool of node {facts.execution.node} back before you send the request again.",
            "It may have ended well and been answered: its record has not been drained.",
        )
    unknown = [call for call in facts.execution.host_calls if call.status == "unknown"]
    if unknown:
        return one(
            f"Find out whether {in_words(unknown[-1])} was carried out before you send the request again.",
            "It had been sent when the process ended, and its answer was never seen.",
        )
    return one(
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
        return one(text, "It ran in the same process, which had to be killed; this one only shared it.")
    if "broke the protocol" in message or "closed its connection" in message:
        text = "Look for what writes to or closes descriptors that it did not open."
    else:
        text = "Look for what ends the process: an exit in the code, or a crash of a native extension."
    return one(text, f"{message} Other requests in flight in it ended too.")


def _memory(facts: Facts) -> list[Suggestion]:
    if "memory_mb" not in facts.cause.message and facts.cause.type != "GuestDied":
        return []
    return one(
        "Hold less at once (page through rows, let go of what module-level variables keep), or raise "
        "`memory_mb` in flux.toml.",
        facts.cause.message,
    )


def _overloaded(facts: Facts) -> list[Suggestion]:
    return one(
        "Raise `concurrency` in flux.toml, or run another server on the same Postgres.",
        "The function's process had no room for another invocation.",
    )


def _null_access(facts: Facts) -> list[Suggestion]:
    empty = [
        call
        for call in facts.cause.document.host_calls
        if call.op in ops.GIVES_ROWS and isinstance(call.result, dict) and call.result.get("rows") == []
    ]
    if not empty or not re.search(
        r"undefined|null|None|not iterable|not subscriptable|list index", facts.cause.message
    ):
        return []
    return one(
        f"Handle the case in which {in_words(empty[-1])} finds nothing.",
        "It returned no rows, and the code used a row as if there were one.",
    )


def _url(facts: Facts) -> str:
    arguments = facts.cause.call.arguments if facts.cause.call else None
    return str(arguments.get("url")) if isinstance(arguments, dict) else "the address"


def _host(url: str) -> str:
    match = re.match(r"[a-z]+://([^/?#]+)", url)
    return match[1] if match else url


def _fits(route: str, path: str) -> bool:
    pattern = re.sub(r"\\\{[^}]*\\\}", "[^/]+", re.escape(route))
    return re.fullmatch(pattern, path) is not None


_CATALOGUE: dict[str, Advice] = {
    **database_advice.CATALOGUE,
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
