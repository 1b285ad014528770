"""The requests that are read without h11: read as h11 reads them, and whatever is unusual left to it."""

from __future__ import annotations

import random

import h11
import pytest

from flux.gateway.plain import Answer, Dates, Incoming, Unsendable, begun, parse

GET = b"GET /hello?name=Ada HTTP/1.1\r\nHost: flux.test\r\nAccept: */*\r\n\r\n"


def read(data: bytes, *, most_head: int = 65536, most_fields: int = 256) -> Incoming | None:
    """The one request that `data` is."""
    found = parse(data, most_head=most_head, most_fields=most_fields)
    return None if found is None or found[1] != len(data) else found[0]


def by_h11(data: bytes) -> tuple[str, bytes, list[tuple[bytes, bytes]], bytes]:
    """What h11 makes of exactly one whole request."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(data)
    found = next_by_h11(connection)
    assert connection.trailing_data == (b"", False)
    return found


def next_by_h11(connection: h11.Connection) -> tuple[str, bytes, list[tuple[bytes, bytes]], bytes]:
    request = connection.next_event()
    assert isinstance(request, h11.Request)
    body = b""
    while isinstance(event := connection.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage)
    assert connection.their_state is h11.DONE  # the connection goes on
    return request.method.decode(), request.target, list(request.headers), body


def told(request: Incoming) -> tuple[str, bytes, list[tuple[bytes, bytes]], bytes]:
    """A request as h11 tells it."""
    target = request.raw + ("?" + request.query if request.query else "")
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in request.headers]
    return request.method, target.encode(), headers, request.body


def test_a_plain_request_is_read() -> None:
    headers = [("host", "flux.test"), ("accept", "*/*")]
    assert read(GET) == Incoming("GET", "/hello", "/hello", "name=Ada", headers)
    request = read(b"POST /a%20b%2Fc?x=%20 HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\n{}")
    assert request is not None
    assert (request.path, request.raw, request.query) == ("/a b/c", "/a%20b%2Fc", "x=%20")
    assert (request.method, request.version, request.body) == ("POST", "1.1", b"{}")


@pytest.mark.parametrize(
    "data",
    [
        GET[:-1],
        GET + b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
        GET.replace(b"GET", b"HEAD"),
        GET.replace(b"GET", b"BREW"),
        GET.replace(b"HTTP/1.1", b"HTTP/1.0"),
        GET.replace(b"\r\n", b"\n"),
        GET.replace(b"/hello", b"http://flux.test/hello"),
        GET.replace(b"/hello", b"*"),
        GET.replace(b"Ada", b"\xc3\xa4"),
        GET.replace(b"Host: flux.test\r\n", b""),
        GET.replace(b"Accept: */*", b"Host: other.test"),
        GET.replace(b"Accept: */*", b"Accept : */*"),
        GET.replace(b"Accept: */*", b" folded"),
        GET.replace(b"Accept: */*", b"Accept: a\x00b"),
        GET.replace(b"Accept: */*", b"Connection: close"),
        GET.replace(b"Accept: */*", b"Connection: Upgrade"),
        GET.replace(b"Accept: */*", b"Upgrade: websocket"),
        GET.replace(b"Accept: */*", b"Expect: 100-continue"),
        GET.replace(b"Accept: */*", b"Transfer-Encoding: chunked"),
        GET.replace(b"Accept: */*", b"Content-Length: 1"),
        GET.replace(b"Accept: */*", b"Content-Length: 0\r\nContent-Length: 0"),
        GET.replace(b"Accept: */*", b"Content-Length: +0"),
        GET.replace(b"Accept: */*", b"Content-Length: 0, 0"),
        GET + b"x",
        b"",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_what_is_unusual_is_left_to_h11(data: bytes) -> None:
    assert read(data) is None


def test_a_head_over_the_limits_is_left_to_h11() -> None:
    assert read(GET, most_head=len(GET)) is not None
    assert read(GET, most_head=len(GET) - 1) is None
    assert read(GET, most_fields=2) is not None
    assert read(GET, most_fields=1) is None


def test_a_header_of_spaces_takes_no_time_to_refuse() -> None:
    assert read(b"GET / HTTP/1.1\r\nHost: h\r\n" + b"a: \t " * 200_000 + b"\x01\r\n\r\n") is None


PIECES = [
    *(
        b"GET",
        b"POST",
        b"PUT",
        b"DELETE",
        b" ",
        b"/",
        b"/a?b=%20",
        b"HTTP/1.1",
        b"HTTP/1.0",
        b"\r\n",
        b"\r",
        b"\n",
    ),
    *(
        b":",
        b": ",
        b"Host",
        b"host",
        b"x",
        b"Content-Length",
        b"content-length: 3",
        b"Connection: keep-alive",
    ),
    *(b"Connection: close", b"Transfer-Encoding: chunked", b"abc", b"\t", b"\x00", b"\x7f", b"\xff", b"\x80"),
    *(b'"', b",", b"(", b"3", b"0"),
]


def test_whatever_is_read_h11_reads_the_same() -> None:
    chance = random.Random(1)
    good = [
        GET,
        b"POST /a HTTP/1.1\r\nhost: h\r\ncontent-length: 3\r\nx-y: \xe4\t z \r\n\r\nabc",
        b'PUT /%C3%A4/{id}|\\^`" HTTP/1.1\r\nHost:h\r\nEmpty:\r\nConnection: Keep-Alive\r\n'
        b"content-length: 0003\r\n\r\n\x00\r\n",
    ]
    accepted = 0
    for turn in range(60_000):
        data = bytearray(chance.choice(good))
        for _ in range(turn % 4):
            at = chance.randrange(len(data) + 1)
            piece = chance.choice(PIECES)
            data[at : at + chance.choice([0, 0, 1, len(piece)])] = piece
        request = read(bytes(data))
        if request is not None:
            accepted += 1
            assert told(request) == by_h11(bytes(data))
    assert accepted > 15_000


def test_requests_that_follow_each_other_are_parted_where_h11_parts_them() -> None:
    chance = random.Random(2)
    good = [
        GET,
        b"POST /a HTTP/1.1\r\nhost: h\r\ncontent-length: 3\r\n\r\nabc",
        b"POST /b HTTP/1.1\r\nhost: h\r\ncontent-length: 26\r\n\r\nGET / HTTP/1.1\r\nhost: h\r\n\r\n",
        b"GET /c HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n",
        b"POST /d HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
    ]
    accepted = longest = 0
    for turn in range(15_000):
        data = bytearray(b"".join(chance.choices(good, weights=[4, 4, 4, 1, 1], k=6)))
        for _ in range(turn % 4):
            at = chance.randrange(len(data) + 1)
            piece = chance.choice(PIECES)
            data[at : at + chance.choice([0, 0, 1, len(piece)])] = piece
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        connection.receive_data(bytes(data))
        at = number = 0
        while found := parse(bytes(data), at, most_head=65536, most_fields=256):
            request, at = found
            number += 1
            assert told(request) == next_by_h11(connection)
            assert connection.trailing_data[0] == data[at:]
            connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
            connection.send(h11.EndOfMessage())
            connection.start_next_cycle()
        accepted += number
        longest = max(longest, number)
    assert accepted > 15_000
    assert longest >= 6


@pytest.mark.parametrize(
    ("data", "may"),
    [
        (GET[:1], True),
        (GET[:5], True),
        (GET[:-2], True),
        (b"DELETE", True),
        (GET, False),  # all of it is there, and it was no plain one
        (GET.replace(b"Accept", b"Expect"), False),
        (GET.replace(b"GET", b"HEAD")[:10], False),
        (b"GET http://h/", False),
        (b"\x16\x03\x01", False),
        (b"BREW", False),
    ],
)
def test_what_may_be_the_beginning_of_a_plain_request(data: bytes, may: bool) -> None:
    assert begun(data) is may


def test_a_response_is_what_h11_reads() -> None:
    answer = Answer(422, [(b"x-request-id", b"ab"), (b"content-length", b"2")], b"{}")
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("host", "h")]))
    client.send(h11.EndOfMessage())
    client.receive_data(answer.head(b"Mon, 23 Nov 2026 00:00:00 GMT", last=False) + answer.body)
    head = client.next_event()
    assert isinstance(head, h11.Response)
    assert (head.status_code, head.reason) == (422, b"Unprocessable Entity")
    assert dict(head.headers)[b"date"] == b"Mon, 23 Nov 2026 00:00:00 GMT"
    body = client.next_event()
    assert isinstance(body, h11.Data)
    assert bytes(body.data) == b"{}"


def test_the_last_response_says_so() -> None:
    assert b"\r\nconnection: close\r\n" in Answer(200, [], b"").head(b"now", last=True)


@pytest.mark.parametrize(
    ("status", "length"), [(200, True), (404, True), (205, True), (299, True), (204, False), (304, False)]
)
def test_a_response_says_its_length_where_it_may(status: int, length: bool) -> None:
    assert (b"\r\ncontent-length: 0\r\n" in Answer(status, [], b"").head(b"now", last=False)) is length


@pytest.mark.parametrize(
    "header", [(b"x\r\ny", b"1"), (b"x", b"1\r\nset-cookie: a"), (b"x", b"\x00"), (b"", b"1"), (b"x:", b"1")]
)
def test_a_header_that_would_break_out_is_refused(header: tuple[bytes, bytes]) -> None:
    with pytest.raises(Unsendable):
        Answer(200, [header], b"").head(b"now", last=False)


def test_dates_are_made_once_a_second() -> None:
    dates = Dates()
    first = dates.at(0.0)
    assert first == b"Thu, 01 Jan 1970 00:00:00 GMT"
    assert dates.at(0.9) is first
    assert dates.at(1.0) == b"Thu, 01 Jan 1970 00:00:01 GMT"
