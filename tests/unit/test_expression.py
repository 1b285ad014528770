"""The small language of --fail-if, --filter, --good and --bad."""

from __future__ import annotations

import pytest

from flux.errors import UsageError
from flux.expression import parse
from flux.shapes.record import Failure
from tests.unit.compare.traces import call, row, span, sql, trace

SUBJECT = trace(
    input={
        "order": {"lines": [{"n": 1}, {"n": 12}], "id": "9007199254740993"},
        "a b": 2,
        "vip": True,
        "gone": None,
    },
    output={"ok": False},
    status=503,
    error=Failure(type="TypeError", message="x is undefined", file="functions/orders/index.ts", line=41),
    calls=[sql(1, "select 1"), sql(2, "select 2"), call(3, "fetch", {"url": "http://x"})],
    mutations=[row(1, "orders", "INSERT", {"id": 1}, None, {"id": 1})],
    logs=["one", "two"],
    spans=[
        span("1", None, "POST /orders", 900.0),
        span("2", "1", "charge", 40.0, **{"http.status_code": 502}),
    ],
    query={"page": "3"},
)


@pytest.mark.parametrize(
    "text",
    [
        "status != 200",
        "status = 503 and function == 'orders'",
        "status < 200 or status >= 500",
        "not status = 200",
        "not (status = 200 or status = 201)",
        "input.order.lines[1].n > 11",
        "input.order.lines[-1].n = 12",
        "input.order.id = 9007199254740993",
        "input.order.id = '9007199254740993'",
        'input."a b" = 2',
        "input['a b'] = 2",
        "input.vip = true",
        "input.vip",
        "not output.ok",
        "input.gone = null and input.never = null",
        "error.type = 'TypeError' and error.line = 41",
        "error.message contains 'undefined'",
        "error",
        "span.charge.duration < 50 and span.charge.count = 1",
        "span.'POST /orders'.duration > 500ms and span.'POST /orders'.duration < 1s",
        "span.charge.attributes.http.status_code = 502",
        "call.db.sql.count = 2 and call.fetch.count = 1",
        "rows.orders = 1",
        "log.info = 2",
        "query.page = 3",
        "status in (500, 502, 503)",
        "input.order contains 'lines'",
        "outcome = 'error'",
    ],
)
def test_it_holds(text: str) -> None:
    assert parse(text).holds(SUBJECT)


@pytest.mark.parametrize(
    "text",
    [
        "status = 200",
        "input.never > 0",
        "input.never < 0",
        "input.gone",
        "input.vip = 1",
        "span.none.duration > 0",
        "span.none.count",
        "output.ok",
        "status = 503 and not status = 503",
        "status in (200, 201)",
        "input.order > 1",
    ],
)
def test_it_does_not_hold(text: str) -> None:
    assert not parse(text).holds(SUBJECT)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is empty"),
        ("status =", "its end"),
        ("status = 200 200", "`200` where `and`"),
        ("(status = 200", "`)`"),
        ("statsu = 200", "names nothing"),
        ("span.charge > 3", "names nothing"),
        ("status = 'open", "`'`"),
        ("status ! 200", "`!`"),
        ("input. = 3", "a name"),
        ("(" * 200 + "status" + ")" * 200, "more than 100 deep"),
        ("__import__('os')", "names nothing"),
    ],
)
def test_what_is_none_is_refused_with_its_place(text: str, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert told in caught.value.message
