"""What of a payload is kept: cutting long ones, the bare arrival of an execution without payloads, the
record of a secret's reading.
"""

from __future__ import annotations

import hashlib

import msgspec
import orjson

from flux.record.events import Arrival
from flux.recorder.redaction import Redaction

LONGEST = 2**20
"""Bytes of a payload that are kept, inputs and row images apart."""


def cut(data: bytes, redaction: Redaction) -> tuple[bytes, int | None]:
    """At most LONGEST bytes of `data`, and its full length where that is more. No secret is cut in half."""
    if len(data) <= LONGEST:
        return data, None
    return redaction.secrets.remove(data)[:LONGEST], len(data)


def digest(data: bytes, size: int | None) -> bytes | None:
    """The sha256 of a payload as it was, where `size` says that it was cut."""
    return None if size is None else hashlib.sha256(data).digest()


def cut_text(text: str, redaction: Redaction) -> str:
    """A log message, likewise; what is missing is said at its end."""
    if len(text) <= LONGEST:
        return text
    return f"{redaction.secrets.remove_text(text)[:LONGEST]} [cut: {len(text)} characters]"


def bare(arrival: Arrival) -> Arrival:
    """The arrival without its payloads: no query, headers, parameters, body, input or seed."""
    return msgspec.structs.replace(
        arrival,
        url=None if arrival.url is None else arrival.url.partition("?")[0],
        query=None,
        params={},
        headers=[],
        body=b"",
        input=None,
        sealed=None,
        body_size=len(arrival.body) if arrival.body_size is None else arrival.body_size,
    )


def secret_reading(arguments: bytes, result: bytes, redaction: Redaction) -> bytes:
    """What is recorded of a `secrets.get` answer: the name, the version and whether it was found, never the
    value.
    """
    try:
        answer = orjson.loads(result)
        name = orjson.loads(arguments)["key"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return b"{}"
    value = answer.get("value") if isinstance(answer, dict) else None
    version = redaction.secret_version(name, value) if isinstance(value, str) else None
    return orjson.dumps({"name": name, "version": version, "found": version is not None})
