"""Taking secrets' values out of an event that was found to hold one. The journal calls it; it is not on the
usual path.

What is taken out is put into `originals`, to be sealed: one dictionary per struct with a `sealed` member,
keyed by the struct's id().
"""

from __future__ import annotations

from typing import Any

import orjson

from flux.record.call import Attempt, CallError
from flux.record.events import Arrival, Call, Deployed, End, Event, Failure, Intent, LogLine, Resource, Spans
from flux.recorder.secret_forms import SecretForms

Sealable = Arrival | Call | LogLine | End
Originals = dict[int, tuple[Sealable, dict[str, Any]]]


def scrub(event: Event, secrets: SecretForms, originals: Originals) -> None:
    """Replace every secret in `event`, in place."""
    if isinstance(event, Arrival):
        _members(event, ("url", "path", "query", "headers", "params", "body", "input"), secrets, originals)
        event.client_request_id = _removed(event.client_request_id, secrets)
    elif isinstance(event, Intent):
        _calls(event.calls, event.logs, secrets, originals)
    elif isinstance(event, End):
        _calls(event.calls, event.logs, secrets, originals)
        _members(event, ("output", "response_headers"), secrets, originals)
        _failure(event.error, secrets)
        for attempt in event.attempts:
            _attempt(attempt, secrets)
        event.spans = [tuple(_removed(value, secrets) for value in row) for row in event.spans]
        event.warnings = _removed(event.warnings, secrets)
    elif isinstance(event, Spans):
        event.spans = [tuple(_removed(value, secrets) for value in row) for row in event.spans]
    elif not isinstance(event, Resource | Deployed):
        raise TypeError(type(event).__name__)


def original(originals: Originals, struct: Sealable, member: str, value: Any) -> None:
    """Remember what a member was before anything was taken out of it; the first memory stays."""
    originals.setdefault(id(struct), (struct, {}))[1].setdefault(member, value)


def _calls(calls: list[Call], logs: list[LogLine], secrets: SecretForms, originals: Originals) -> None:
    for call in calls:
        _members(call, ("arguments", "result"), secrets, originals)
        if call.error is not None:
            call.error = CallError(
                call.error.type, _removed(call.error.message, secrets), _removed(call.error.detail, secrets)
            )
    for line in logs:
        _members(line, ("message", "fields"), secrets, originals)


def _members(struct: Sealable, names: tuple[str, ...], secrets: SecretForms, originals: Originals) -> None:
    for name in names:
        before = getattr(struct, name)
        after = _removed(before, secrets)
        if after != before:
            original(originals, struct, name, before)
            setattr(struct, name, after)


def _failure(failure: Failure | None, secrets: SecretForms) -> None:
    if failure is not None:
        failure.message = _removed(failure.message, secrets)
        failure.stack = _removed(failure.stack, secrets)
        failure.fields = _removed(failure.fields, secrets)


def _attempt(attempt: Attempt, secrets: SecretForms) -> None:
    attempt.key = _removed(attempt.key, secrets)
    attempt.before = _removed(attempt.before, secrets)
    attempt.after = _removed(attempt.after, secrets)


def _removed(value: Any, secrets: SecretForms) -> Any:
    if isinstance(value, str):
        return secrets.remove_text(value)
    if isinstance(value, bytes):
        return _removed_bytes(value, secrets)
    if isinstance(value, dict):
        return {_removed(name, secrets): _removed(member, secrets) for name, member in value.items()}
    if isinstance(value, list):
        return [_removed(member, secrets) for member in value]
    if isinstance(value, tuple):
        return tuple(_removed(member, secrets) for member in value)
    return value


def _removed_bytes(value: bytes, secrets: SecretForms) -> bytes:
    """A secret that stood as a bare number leaves no JSON behind: then the whole payload becomes one
    string.
    """
    after = secrets.remove(value)
    if after is not value and _is_json(value) and not _is_json(after):
        return b'"[redacted]"'
    return after


def _is_json(data: bytes) -> bool:
    try:
        orjson.loads(data)
    except orjson.JSONDecodeError:
        return False
    return True
