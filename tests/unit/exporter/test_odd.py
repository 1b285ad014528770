"""Spans that are not as the SDK makes them, as rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.sdk.trace import Event, ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Link, SpanContext, StatusCode

from flux_postgres_exporter import binary, odd, rows

NOW = time.time_ns()
EARLIER = 1_790_000_000 * 10**9
DAY = rows.day_of(NOW)


def made(name: Any = "odd", *, start_time: Any = None, end_time: Any = None, **values: Any) -> Any:
    """An ended span of the SDK's."""
    provider = TracerProvider(sampler=ALWAYS_ON, shutdown_on_exit=False)
    span = provider.get_tracer("t").start_span(name, start_time=start_time, **values)
    span.end(end_time)
    return span


def encoded(span: Any) -> rows.SpanRow:
    """Its row, which must be one that COPY takes."""
    row = odd.encode(span, NOW)
    assert row is not None
    assert binary.row(row, binary.owner("r" * 32, DAY))
    return row


def field(span: Any, name: str, value: Any) -> Any:
    """The span with another value in one of its fields."""
    setattr(span, name, value)
    return span


class Untellable:
    """What nothing can be said of."""

    def __str__(self) -> str:
        raise RuntimeError("no")

    def __repr__(self) -> str:
        raise RuntimeError("no")


def test_a_usual_span_is_stored_as_it_is() -> None:
    span = made(attributes={"a": 1})
    assert encoded(span) == rows.encode(span)
    assert odd.ODD not in encoded(span)[rows.ATTRIBUTES]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: made(start_time=10**21, end_time=10**21 + 5), "start_time was 1000000000000000000000"),
        (lambda: made(start_time=1_700_000_000, end_time=1_700_000_001), "start_time was 1700000000"),
        (lambda: made(start_time=1_700_000_000_000, end_time=None), "start_time was 1700000000000"),
        (lambda: made(start_time=-5), "start_time was -5"),
        (lambda: made(start_time=NOW / 1, end_time=NOW / 1), "start_time was"),
        (lambda: made(start_time=float("nan"), end_time=5), "start_time was nan"),
        (lambda: made(end_time=10**25), "end_time was 10000000000000000000000000"),
        (lambda: made(end_time=-(10**25)), None),
        (lambda: made(end_time=float("inf")), "end_time was inf"),
        (lambda: field(made(), "_start_time", "yesterday"), "start_time was yesterday"),
        (lambda: field(made(), "_start_time", None), "start_time was None"),
        (lambda: field(made(), "_start_time", True), "start_time was True"),
        (lambda: made(None), "name was None"),
        (lambda: made(404), "name was 404"),
        (lambda: made(b"bytes"), "name was b'bytes'"),
        (lambda: made(Untellable()), "name was a Untellable that can't be read"),
        (lambda: field(made(), "_kind", 17), "kind was 17"),
        (lambda: field(made(), "_kind", None), "kind was None"),
        (lambda: field(made(), "_status", None), "status was None"),
        (lambda: field(made(), "_parent", "nobody"), "parent was nobody"),
        (lambda: field(made(), "_attributes", [1, 2]), "attributes can't be read"),
        (lambda: field(made(), "_events", [None]), "an event was None"),
        (lambda: field(made(), "_links", [None]), "a link was None"),
        (lambda: field(made(), "_events", 5), "events can't be read"),
        (lambda: field(made(), "_instrumentation_scope", SimpleNamespace(name=7)), None),
        (lambda: field(made(), "_resource", None), None),
    ],
)  # fmt: skip
def test_an_odd_span_is_stored_and_says_what_was_odd(make: Callable[[], Any], said: str | None) -> None:
    row = encoded(make())
    assert odd.EARLIEST_NS <= row[rows.START_NS] <= time.time_ns() + odd.AHEAD_NS
    assert isinstance(row[rows.NAME], str)
    if said is not None:
        assert said in row[rows.ATTRIBUTES][odd.ODD]


@pytest.mark.parametrize(
    "value",
    [10**5000, -(10**30), Untellable(), {"a": Untellable()}, [object()], {1, 2}, {None: 1}, {(1, 2): 3},
     "\ud83d", "\0", float("nan"), b"\xff", range(3), {Untellable(): 1}],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_an_attribute_of_any_type_is_stored(value: Any) -> None:
    span = made()
    encoded(field(span, "_attributes", {"odd": value, "good": 1}))
    encoded(field(span, "_attributes", {value if isinstance(value, str) else 7: 1}))


def test_an_odd_attribute_leaves_the_others() -> None:
    row = encoded(field(made(), "_attributes", {"odd": Untellable(), "good": 1}))
    assert rows.to_json(row[rows.ATTRIBUTES]) == '{"odd": "[a Untellable that can\'t be read]", "good": 1}'


@pytest.mark.parametrize(
    "context", [None, SimpleNamespace(trace_id="x", span_id=1), SpanContext(0, 0, is_remote=False)]
)
def test_a_span_without_ids_has_no_row(context: Any) -> None:
    assert odd.encode(field(made(), "_context", context), NOW) is None


class Masked(ReadableSpan):
    """A redacting exporter's span, its class initialised."""

    def __init__(self, span: Any) -> None:
        super().__init__(
            name=span.name, context=span.context, parent=span.parent, resource=span.resource,
            attributes=span.attributes, events=span.events, links=span.links, kind=span.kind,
            status=span.status, start_time=span.start_time, end_time=span.end_time,
            instrumentation_scope=span.instrumentation_scope,
        )  # fmt: skip

    @property
    def attributes(self) -> Any:
        return mask(super().attributes)


class Bare(ReadableSpan):
    """One that is not: it asks the span that it wraps."""

    def __init__(self, span: Any) -> None:
        self._wrapped = span

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_wrapped"], name)

    @property
    def attributes(self) -> Any:
        return mask(self._wrapped.attributes)


class Delegating:
    """One that is no ReadableSpan."""

    def __init__(self, span: Any) -> None:
        self._wrapped = span

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._wrapped, name)
        return mask(found) if name == "attributes" else found


class Intercepting(Masked):
    """One that intercepts every access."""

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        return mask(found) if name == "attributes" else found


def mask(attributes: Any) -> Any:
    return {key: "***" if key == "password" else value for key, value in (attributes or {}).items()}


@pytest.mark.parametrize("wrap", [Masked, Bare, Delegating, Intercepting])
def test_what_a_wrapping_spans_properties_say_is_stored(wrap: Callable[[Any], Any]) -> None:
    span = made(attributes={"password": "clear-text", "user": "ada"}, links=[Link(made().context, {"a": 1})])
    usual = rows.encode(span)
    row = encoded(wrap(span))
    assert row[rows.ATTRIBUTES] == {"password": "***", "user": "ada"}
    assert (row[: rows.ATTRIBUTES], row[rows.ATTRIBUTES + 1 :]) == (
        usual[: rows.ATTRIBUTES],
        usual[rows.ATTRIBUTES + 1 :],
    )


@pytest.mark.parametrize(
    ("name", "value", "column", "stored"),
    [
        ("name", "GET /[redacted]", rows.NAME, "GET /[redacted]"),
        ("events", (Event("login", {"password": "***"}, 5),), 10, [["login", 5, {"password": "***"}]]),
        ("links", (), 11, None),
        ("status", SimpleNamespace(status_code=StatusCode.ERROR, description="***"), 8, "***"),
        ("start_time", EARLIER, rows.START_NS, EARLIER),
        ("parent", None, rows.PARENT, None),
        ("instrumentation_scope", None, 12, None),
    ],
)
def test_each_property_may_be_overridden(name: str, value: Any, column: int, stored: Any) -> None:
    wrapper = type("Wrapper", (Masked,), {name: property(lambda _: value)})
    assert encoded(wrapper(made(links=[Link(made().context)])))[column] == stored


def test_a_wrapper_that_leaves_its_fields_out_is_stored_as_far_as_it_speaks() -> None:
    class Partial(ReadableSpan):
        def __init__(self, span: Any) -> None:
            self._wrapped = span

        @property
        def context(self) -> Any:
            return self._wrapped.context

        @property
        def attributes(self) -> Mapping[str, Any]:
            return {"user": "***"}

    row = encoded(Partial(made(attributes={"user": "ada"})))
    assert row[rows.ATTRIBUTES]["user"] == "***"
    assert "start_time was None" in row[rows.ATTRIBUTES][odd.ODD]
