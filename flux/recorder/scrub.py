"""Taking secrets' values out of an event that was found to hold one. The journal calls it; it is not on the
usual path.

What is taken out is put into `originals`, to be sealed: one dictionary per struct with a `sealed` member,
keyed by the struct's id().
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from typing import Any

import msgspec
import orjson

from flux.record.call import Attempt, CallError
from flux.record.events import (
    Answered,
    Arrival,
    Call,
    Deployed,
    End,
    Event,
    Failure,
    Intent,
    LogLine,
    Resource,
    Spans,
    Surroundings,
    Tally,
)
from flux.recorder import packed
from flux.recorder.json_members import MARK
from flux.recorder.secret_forms import SecretForms

Sealable = Arrival | Call | LogLine | Answered | End
Originals = dict[int, tuple[Sealable, dict[str, Any]]]


class _Message(msgspec.Struct):
    """What of a fetch's arguments or result tells whether its body is compressed."""

    headers: list[tuple[str, str]] = []
    body: Any = None


_read_message = msgspec.json.Decoder(_Message).decode


def scrub(event: Event, secrets: SecretForms, originals: Originals) -> None:
    """Replace every secret in `event`, in place."""
    if isinstance(event, Arrival):
        _unreadable(event, "body", event.headers, event.body, secrets, originals)
        _members(event, ("url", "path", "query", "headers", "params", "body", "input"), secrets, originals)
        event.client_request_id = _removed(event.client_request_id, secrets)
        if event.deployment is None:  # no function has that name: it may be any text
            event.function = _removed(event.function, secrets)
        event.method = _removed(event.method, secrets)
        if event.rejection is not None:
            _clean(event.rejection.error, secrets)
    elif isinstance(event, Intent):
        _calls(event.calls, event.logs, secrets, originals)
    elif isinstance(event, Answered | End):
        _calls(event.calls, event.logs, secrets, originals)
        if event.output:
            _unreadable(event, "output", event.response_headers, event.output, secrets, originals)
        _members(event, ("output", "response_headers"), secrets, originals)
        _failure(event, secrets, originals)
        event.warnings = _removed(event.warnings, secrets)
        if isinstance(event, End):
            for attempt in event.attempts:
                _attempt(attempt, secrets)
            event.spans = [tuple(_removed(value, secrets) for value in row) for row in event.spans]
    elif isinstance(event, Spans):
        event.spans = [tuple(_removed(value, secrets) for value in row) for row in event.spans]
    elif isinstance(event, Resource):
        event.attributes = _removed(event.attributes, secrets)
    elif not isinstance(event, Deployed | Tally | Surroundings):
        raise TypeError(type(event).__name__)


def original(originals: Originals, struct: Sealable, member: str, value: Any) -> None:
    """Remember what a member was before anything was taken out of it; the first memory stays."""
    originals.setdefault(id(struct), (struct, {}))[1].setdefault(member, value)


def _calls(calls: list[Call], logs: list[LogLine], secrets: SecretForms, originals: Originals) -> None:
    for call in calls:
        if call.op == "fetch":
            for member in ("arguments", "result"):
                _unreadable_in_call(call, member, secrets, originals)
        _members(call, ("arguments", "result"), secrets, originals)
        error = call.error
        if error is not None:
            kept = CallError(
                _removed(error.type, secrets),
                _removed(error.message, secrets),
                _removed(error.detail, secrets),
            )
            if kept != error:
                original(originals, call, "error", msgspec.to_builtins(error))
                call.error = kept
    for line in logs:
        _members(line, ("message", "fields"), secrets, originals)


def _members(struct: Sealable, names: tuple[str, ...], secrets: SecretForms, originals: Originals) -> None:
    for name in names:
        before = getattr(struct, name)
        after = _removed(before, secrets)
        if after != before:
            original(originals, struct, name, before)
            setattr(struct, name, after)


def _unreadable(
    struct: Sealable,
    member: str,
    headers: Iterable[tuple[str, str]],
    content: bytes,
    secrets: SecretForms,
    originals: Originals,
) -> None:
    """A compressed body that holds a secret, or can't be unpacked to be looked into, is withheld whole."""
    encoding = next((value for name, value in headers if name.lower() == "content-encoding"), "")
    if not encoding or not content or not secrets:
        return
    plain = packed.unpack(encoding, content)
    if plain is None or secrets.remove(plain) is not plain:
        original(originals, struct, member, getattr(struct, member))
        setattr(struct, member, MARK)


def _unreadable_in_call(call: Call, member: str, secrets: SecretForms, originals: Originals) -> None:
    data = getattr(call, member)
    if not data or b"ncoding" not in data.lower() or b'"$bytea"' not in data:
        return
    try:
        message = _read_message(data)
        content = base64.b64decode(message.body["$bytea"])
    except (msgspec.DecodeError, UnicodeDecodeError, binascii.Error, KeyError, TypeError):
        return
    _unreadable(call, member, message.headers, content, secrets, originals)


def _failure(end: Answered | End, secrets: SecretForms, originals: Originals) -> None:
    failure = end.error
    if failure is None:
        return
    before = msgspec.to_builtins(failure)
    _clean(failure, secrets)
    if msgspec.to_builtins(failure) != before:
        original(originals, end, "error", before)


def _clean(failure: Failure, secrets: SecretForms) -> None:
    failure.type = _removed(failure.type, secrets)
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
        return removed_json(value, secrets)
    if isinstance(value, dict):
        return {_removed(name, secrets): _removed(member, secrets) for name, member in value.items()}
    if isinstance(value, list):
        return [_removed(member, secrets) for member in value]
    if isinstance(value, tuple):
        return tuple(_removed(member, secrets) for member in value)
    return value


def removed_json(value: bytes, secrets: SecretForms) -> bytes:
    """A payload without secrets. A secret that stood as a bare number leaves no JSON behind: then the whole
    payload becomes one string.
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
