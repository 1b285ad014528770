"""A secret is taken out of every member of an event, also out of names that somebody may choose."""

from __future__ import annotations

import msgspec

from flux.record.call import CallError
from flux.record.events import Arrival, Call, End, Failure, Rejection
from flux.recorder.scrub import Originals, scrub
from flux.recorder.secret_forms import SecretForms

SECRET = "sk-live-51HqX9zQ"


def secrets() -> SecretForms:
    known = SecretForms()
    known.add("KEY", SECRET)
    return known


def test_names_in_an_arrival_hold_no_secret() -> None:
    arrival = Arrival(
        *("a" * 32, "2026-01-01", "b" * 32, "c" * 16, None, None, "invoke", SECRET, None, 1, "all"),
        method=SECRET,
        rejection=Rejection(404, Failure(SECRET, SECRET)),
    )
    scrub(arrival, secrets(), {})
    assert SECRET.encode() not in msgspec.msgpack.encode(arrival)
    assert arrival.function == "[redacted:KEY]"


def test_a_function_keeps_its_name_though_some_variable_has_that_value() -> None:
    arrival = Arrival(
        *("a" * 32, "2026-01-01", "b" * 32, "c" * 16, None, None, "job", SECRET, "d" * 64, 1, "all")
    )
    scrub(arrival, secrets(), {})
    assert arrival.function == SECRET


def test_types_of_errors_hold_no_secret() -> None:
    call = Call(1, "invoke", b"{}", "done", 1, 1, error=CallError(SECRET, "no", {}))
    end = End("a" * 32, 500, "error", 1, error=Failure(SECRET, "no"), calls=[call])
    originals: Originals = {}
    scrub(end, secrets(), originals)
    assert SECRET.encode() not in msgspec.msgpack.encode(end)
    assert {id(end), id(call)} == set(originals)
