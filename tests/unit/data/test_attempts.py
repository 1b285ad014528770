"""Announcements of the capture triggers become the parts of an Outcome."""

from __future__ import annotations

from flux.data.attempts import summarise


def test_nothing_announced_is_nothing() -> None:
    summary = summarise([], 3)
    assert (summary.attempts, summary.xid, summary.first_n, summary.snapshot) == ([], None, None, None)


def test_rows_keep_their_exact_images() -> None:
    image = '{"a": 12345678901234567890.10, "b": "\\u00e9"}'
    message = (
        f'{{"r":"{"a" * 32}","a":[[64,7,"public","t","INSERT",{{"id": 1}},null,'
        f"{image},1700000000000001]],"
        '"cut":2,"lo":32,"hi":96,"snap":"7:9:"}'
    )
    summary = summarise([message], 5)
    attempt = summary.attempts[0]
    assert (attempt.n, attempt.xid, attempt.schema, attempt.table, attempt.op) == (
        64,
        7,
        "public",
        "t",
        "INSERT",
    )
    assert (attempt.key, attempt.before, attempt.after) == (b'{"id": 1}', None, image.encode())
    assert (attempt.at_ns, attempt.seq, attempt.cut) == (1_700_000_000_000_001_000, 5, 2)
    assert (summary.first_n, summary.last_n, summary.xid, summary.snapshot) == (32, 96, 7, "7:9:")


def test_several_announcements_of_one_statement_are_one() -> None:
    row = '[{},7,"public","t","DELETE",null,{{}},null,1]'
    messages = [
        f'{{"a":[{row.format(64)}],"cut":0,"lo":64,"hi":64,"snap":"1:2:"}}',
        f'{{"a":[{row.format(32)}],"cut":0,"lo":32,"hi":128,"snap":"1:3:"}}',
    ]
    summary = summarise(messages, None)
    assert [attempt.n for attempt in summary.attempts] == [64, 32]
    assert (summary.first_n, summary.last_n, summary.snapshot) == (32, 128, "1:2:")


def test_a_transaction_says_its_snapshot_and_its_xid_at_its_end() -> None:
    ended = summarise(['{"end":{"xid":9,"snap":"3:4:3"}}'], 1)
    assert (ended.xid, ended.snapshot) == (9, "3:4:3")
