"""Events put together into executions."""

from __future__ import annotations

from flux.drain.assemble import Assembled, Assembler, Misfit, Single
from flux.record.events import Arrival, Call, End, Event, Intent, LogLine, Spans
from flux.recorder.journal import encode
from flux.spool.reader import Damage, Record


def arrival(request_id: str, **changes: object) -> Arrival:
    made = Arrival(request_id, "2026-01-02", "t" * 32, "s" * 16, None, None, "http", "f", None, 1, "all")
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def call(seq: int, status: str, **changes: object) -> Call:
    made = Call(seq, "fetch", b"{}", status, seq, 1)
    for name, value in changes.items():
        setattr(made, name, value)
    return made


class Fed:
    """An assembler and the events it is given, each in a segment of its own."""

    def __init__(self) -> None:
        self.assembler = Assembler()
        self.segment = 0

    def __call__(self, event: Event) -> object:
        self.segment += 1
        return self.assembler.feed(Record((self.segment, 0), 50, encode(event)))


def test_an_execution_comes_out_at_its_end_with_everything() -> None:
    feed = Fed()
    assert feed(arrival("a")) is None
    assert (
        feed(Intent("a", [call(1, "done"), call(2, "unknown", arguments=b'{"x":1}', sealed=b"s")], []))
        is None
    )
    done = feed(
        End(
            "a",
            200,
            "ok",
            5,
            calls=[call(2, "done", arguments=b"", result=b"r")],
            logs=[LogLine(3, 1, "info", "m", None, None)],
        )
    )
    assert isinstance(done, Assembled)
    assert [done.calls[1].status, done.calls[2].status] == ["done", "done"]
    assert (done.calls[2].arguments, done.calls[2].result, done.calls[2].sealed) == (b'{"x":1}', b"r", b"s")
    assert list(done.logs) == [3]
    assert [place for place, _ in done.where] == [(1, 0), (2, 0), (3, 0)]
    assert feed.assembler.open == {}


def test_a_second_arrival_replaces_the_first_and_keeps_its_place() -> None:
    feed = Fed()
    feed(arrival("a"))
    feed(arrival("a", body=b"whole"))
    done = feed(End("a", 500, "error", 1))
    assert isinstance(done, Assembled)
    assert done.arrival.body == b"whole"
    assert len(done.where) == 3


def test_open_executions_say_in_which_segments_they_stand() -> None:
    feed = Fed()
    feed(arrival("a"))
    feed(arrival("b"))
    feed(Intent("a", [], []))
    feed(End("b", 200, "ok", 1))
    assert feed.assembler.segments() == {1, 3}
    assert [execution.request_id for execution in feed.assembler.interrupted()] == ["a"]


def test_what_fits_nowhere_is_a_misfit_and_never_lost() -> None:
    feed = Fed()
    end = feed(End("nobody", 200, "ok", 1))
    assert isinstance(end, Misfit)
    assert end.request_id == "nobody"
    broken = feed.assembler.feed(Record((9, 0), 20, b"\xc1"))
    assert isinstance(broken, Misfit)
    damaged = feed.assembler.feed(Damage((9, 20), 30, b"raw bytes", "torn"))
    assert isinstance(damaged, Misfit)
    assert damaged.raw == b"raw bytes"


def test_events_of_no_execution_stand_for_themselves() -> None:
    single = Fed()(Spans([("a",), ("b",)]))
    assert isinstance(single, Single)
    assert single.size == 2
