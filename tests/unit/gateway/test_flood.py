"""Requests of a flood: what may be answered in passing, and that it says what the whole way would say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import orjson
import pytest

from flux.config import Config
from flux.errors import Overloaded, SpoolFull
from flux.gateway.admission import Admission
from flux.gateway.flood import Flood
from flux.gateway.plain import Answer, Incoming
from flux.gateway.traffic import Traffic
from flux.record.events import Failure
from flux.runtime.request import Result
from flux.runtime.routes import Routes, parse


class Open:
    """Stands in for Together: an open record."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.adds: list[int] = []
        self.full = False

    def add(self, more: int = 1) -> None:
        if self.full:
            raise SpoolFull("full")
        self.adds.append(more)

    def result(self, before: int = 0) -> Result:
        number = f"{sum(self.adds) - before:032x}"
        return Result(number, "t" * 32, "s" * 16, self.status, "rejected", "json", [], b"")


@dataclass
class Rejections:
    """Has an open record for each key in `open`."""

    flooded: bool = True
    open: dict[tuple[int, str, str | None], Open] = field(default_factory=dict)

    def joining(self, key: tuple[int, str, str | None]) -> Open | None:
        return self.open.get(key)


@dataclass
class Guest:
    full: bool = False

    def refusal(self) -> Overloaded | None:
        return Overloaded("no room") if self.full else None


class Registry:
    def __init__(self, guest: Guest) -> None:
        self.routes = Routes()
        self.routes.add("item", ["POST"], parse("/item/{id}"))
        self._item = SimpleNamespace(route="/item/{id}", guest=guest)

    def get(self, name: str) -> Any:
        return self._item


def _document(failure: Failure, request_id: str) -> bytes:
    return orjson.dumps([failure.type, failure.message, request_id])


@pytest.fixture
def guest() -> Guest:
    return Guest()


@pytest.fixture
def rejections() -> Rejections:
    return Rejections()


@pytest.fixture
def traffic() -> Traffic:
    return Traffic()


@pytest.fixture
def make(tmp_path: Any, guest: Guest, rejections: Rejections, traffic: Traffic) -> Callable[..., Flood]:
    def flood(**settings: Any) -> Flood:
        config = Config(root=tmp_path, **settings)
        admission = Admission(config, Registry(guest))  # type: ignore[arg-type]
        return Flood(config, admission, rejections, _document, traffic)  # type: ignore[arg-type]

    return flood


def incoming(
    method: str, target: str, body: bytes = b"", *fields: tuple[str, str], host: str = "localhost"
) -> Incoming:
    raw, _, query = target.partition("?")
    return Incoming(method, raw, unquote(raw), query, [("host", host), *fields], body)


def get(target: str) -> Incoming:
    return incoming("GET", target)


def post(target: str, body: bytes, kind: str = "application/json") -> Incoming:
    return incoming("POST", target, body, ("content-type", kind))


NOT_FOUND = (404, "NotFound", None)


def test_a_refusal_without_an_open_record_takes_the_whole_way(
    make: Callable[..., Flood], rejections: Rejections
) -> None:
    flood = make()
    assert flood.joins(get("/x")) is None
    rejections.open[NOT_FOUND] = Open(404)
    assert flood.joins(get("/x")) is not None
    rejections.flooded = False
    assert flood.joins(get("/x")) is None


def test_requests_of_one_kind_share_an_append_and_each_has_its_number_and_words(
    make: Callable[..., Flood], rejections: Rejections, traffic: Traffic
) -> None:
    unknown, bad = Open(404), Open(400)
    rejections.open = {NOT_FOUND: unknown, (400, "BadJSON", "item"): bad}
    flood = make()
    requests = [get("/%C3%A4?q=1"), post("/item/1", b"{"), get("/b"), get("/c")]
    joining = [flood.joins(request) for request in requests]
    answers = flood.answer([one for one in joining if one is not None])
    assert (unknown.adds, bad.adds) == ([3], [1])
    told = [(one.status, *orjson.loads(one.body)) for one in answers if one is not None]
    assert told == [
        (404, "NotFound", "No function has the route /ä.", f"{1:032x}"),
        (400, "BadJSON", told[1][2], f"{1:032x}"),
        (404, "NotFound", "No function has the route /b.", f"{2:032x}"),
        (404, "NotFound", "No function has the route /c.", f"{3:032x}"),
    ]
    assert told[1][2].startswith("The body is not valid JSON")
    assert isinstance(answers[0], Answer)
    assert dict(answers[0].headers) == {
        b"x-request-id": f"{1:032x}".encode(),
        b"traceparent": b"00-" + b"t" * 32 + b"-" + b"s" * 16 + b"-01",
        b"content-type": b"application/json",
    }
    counted = {series: sum(found.counts) for series, found in traffic.durations.items()}
    assert counted == {("GET", "http", "", 404, ""): 3, ("POST", "http", "/item/{id}", 400, ""): 1}


def test_another_method_is_told_which_are_taken(make: Callable[..., Flood], rejections: Rejections) -> None:
    rejections.open[405, "MethodNotAllowed", None] = Open(405)
    flood = make()
    joining = flood.joins(get("/item/1"))
    assert joining is not None
    [answer] = flood.answer([joining])
    assert answer is not None
    assert dict(answer.headers)[b"allow"] == b"POST"


def test_a_function_without_room_refuses_in_passing_too(
    make: Callable[..., Flood], rejections: Rejections, guest: Guest
) -> None:
    rejections.open[503, "Overloaded", "item"] = Open(503)
    flood = make()
    assert flood.joins(post("/item/1", b"{}")) is None  # it has room: the request is to run
    guest.full = True
    joining = flood.joins(post("/item/1", b"{}"))
    assert joining is not None
    [answer] = flood.answer([joining])
    assert answer is not None
    assert dict(answer.headers)[b"retry-after"] == b"1"


@pytest.mark.parametrize(
    ("request_", "settings"),
    [
        (get("/_flux/nowhere"), {}),
        (get("/%5Fflux/nowhere"), {}),
        (get("/v1/traces"), {}),
        (incoming("GET", "/x", host="evil.example"), {}),
        (incoming("GET", "/x", b"", ("origin", "http://evil.example")), {}),
        (incoming("GET", "/x", b"", ("accept", "a"), ("accept", "b")), {}),
        (get("/?a=1"), {"dev": True}),
        (post("/item/1", b"{" * 11), {"body_limit": 10}),
        (post("/item/1", b"{", "text/plain"), {}),
    ],
)
def test_what_is_no_plain_refusal_takes_the_whole_way(
    make: Callable[..., Flood], rejections: Rejections, request_: Incoming, settings: Any
) -> None:
    rejections.open = {NOT_FOUND: Open(404), (400, "BadJSON", "item"): Open(400)}
    assert make(**settings).joins(request_) is None


def test_what_can_not_be_counted_is_not_answered(make: Callable[..., Flood], rejections: Rejections) -> None:
    unknown, bad = Open(404), Open(400)
    rejections.open = {NOT_FOUND: unknown, (400, "BadJSON", "item"): bad}
    unknown.full = True
    flood = make()
    joining = [flood.joins(one) for one in (get("/a"), post("/item/1", b"{"), get("/b"))]
    answers = flood.answer([one for one in joining if one is not None])
    assert [answer and answer.status for answer in answers] == [None, 400, None]
