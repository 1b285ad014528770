"""The trace shape."""

from __future__ import annotations

import asyncio
import re
from datetime import datetime
from typing import Any

import msgspec
import pytest

from flux.query import Reader, Request, Trace, to_json
from flux.query.partition import of_day
from flux.query.queries import Q
from tests.integration.query.recorded import FAILED_ID, OneConnection, Record, unique_violation

A = "aaaa1111" + "0" * 24
B = "bbbb2222" + "0" * 24


async def test_a_trace_reads_back_from_its_json(record: Record, reader: Reader) -> None:
    await unique_violation(record)
    document = await reader.trace(FAILED_ID)
    assert msgspec.json.decode(to_json(document), type=Trace) == document


async def test_the_request_is_given_as_it_came(record: Record, reader: Reader) -> None:
    await record.execution(A)
    request = (await reader.trace(A)).request
    assert request == Request(
        method="POST",
        url="http://localhost:4000/create_user?x=1&x=2",
        headers={"content-type": "application/json", "x-tag": ["a", "b"]},
        query={"x": ["1", "2"]},
        params={},
        body={"email": "ada@example.com"},
    )


async def test_input_is_the_body_unless_it_came_from_elsewhere(record: Record, reader: Reader) -> None:
    await record.execution(A)
    await record.execution(B, method="GET", body=b"", input=b'{"page": "2"}')
    assert (await reader.trace(A)).input == {"email": "ada@example.com"}
    assert (await reader.trace(B)).input == {"page": "2"}
    assert (await reader.trace(B)).request.body is None


async def test_a_rejected_request_gave_the_handler_nothing(record: Record, reader: Reader) -> None:
    await record.execution(A, status=400, outcome="rejected", body=b'{"a": ', output=None)
    document = await reader.trace(A)
    assert document.input is None
    assert document.request.body == '{"a": '


async def test_payloads_that_are_not_json_are_text_or_base64(record: Record, reader: Reader) -> None:
    await record.execution(A, body=b"plain", output=b"\xff\xfe", output_kind="response", output_size=9)
    document = await reader.trace(A)
    assert document.input == "plain"
    assert document.output == {"$bytea": "//4="}
    assert document.output_size == 9


async def test_mutations_belong_to_the_call_of_their_transaction(record: Record, reader: Reader) -> None:
    await record.execution(A)
    first = await record.mutation(A, "INSERT", {"id": 1}, None, {"id": 1}, xid=50)
    second = await record.mutation(A, "UPDATE", {"id": 2}, {"id": 2, "n": 1}, {"id": 2, "n": 2}, xid=51)
    third = await record.mutation(A, "DELETE", {"id": 3}, {"id": 3}, None, xid=99)
    # Two transactions at once: the numbers of each enclose the other's.
    await record.call(A, 1, "db.sql", {"text": "a"}, {}, span="c1", xid=50, first_n=first, last_n=second)
    await record.call(A, 2, "db.sql", {"text": "b"}, {}, span="c2", xid=51, first_n=first, last_n=second)
    mutations = (await reader.trace(A)).mutations
    assert [(m.seq, m.span_id and m.span_id[-2:]) for m in mutations] == [
        (1, "c1"),
        (2, "c2"),
        (None, None),
    ]
    assert mutations[1].changed == ["n"]
    assert mutations[2].n == third


async def test_a_table_outside_public_is_named_with_its_schema(record: Record, reader: Reader) -> None:
    await record.execution(A)
    await record.mutation(A, "INSERT", {"id": 1}, None, {"id": 1}, schema_name="shop", table="items")
    assert (await reader.trace(A)).mutations[0].table == "shop.items"


async def test_invoked_executions_come_inside_their_caller(record: Record, reader: Reader) -> None:
    c = "cccc" + "0" * 28
    await record.execution(A)
    await record.call(A, 1, "invoke", {"name": "child", "payload": 1}, {"ok": True}, span="c1")
    await record.execution(B, ago=59, trigger="invoke", function="child", parent_request_id=A)
    await record.call(B, 1, "invoke", {"name": "leaf", "payload": 1}, 2, ago=59)
    await record.execution(c, ago=58, trigger="invoke", function="leaf", parent_request_id=B)
    document = await reader.trace(A)
    assert [child.request_id for child in document.children] == [B]
    assert [child.request_id for child in document.children[0].children] == [c]
    inner = await reader.trace(B)
    assert inner.parent_request_id == A
    assert [child.request_id for child in inner.children] == [c]


async def test_numbers_too_great_for_json_readers_are_strings(record: Record, reader: Reader) -> None:
    await record.execution(
        A, body=b'{"n": 9007199254740993, "m": 12, "x": 0.1000000000000000055511, "y": 1e400}'
    )
    given = (await reader.trace(A)).input
    assert given == {"n": "9007199254740993", "m": 12, "x": "0.1000000000000000055511", "y": "1e400"}


async def test_withheld_columns_are_shown_nowhere(record: Record, connection: Any) -> None:
    await connection.execute("CREATE TABLE users (id int PRIMARY KEY, email text)")
    await unique_violation(record)
    reader = Reader(OneConnection(connection), redact_columns=["users.email"])
    (mutation,) = (await reader.trace("88ee")).mutations
    assert mutation.after == {"id": 7, "email": "[redacted]"}
    assert mutation.changed == ["id", "email"]
    assert (await reader.history("users", "7"))[0].after["email"] == "[redacted]"
    assert (await reader.blame("users", "7"))["email"].value in ("[redacted]", None)
    assert {entry.value for entry in (await reader.why(FAILED_ID)).provenance} <= {"[redacted]"}


async def test_jobs_come_with_the_execution_that_pushed_them(record: Record, reader: Reader) -> None:
    await record.execution(A)
    await record.call(A, 1, "queue.push", {"name": "mail", "payload": 1}, {"id": "j1", "duplicate": False})
    await record.execution(
        B, ago=50, trigger="job", function="mail", parent_request_id=A, job_id="j1", job_attempt=1
    )
    await record.mutation(B, "INSERT", {"id": 1}, None, {"id": 1}, ago=50)
    assert [(job.request_id, job.job_id) for job in (await reader.trace(A)).children] == [(B, "j1")]
    assert (await reader.why(A)).data_changes == []


@pytest.mark.parametrize("plan", ["force_custom_plan", "force_generic_plan"])
async def test_a_trace_reads_one_partition_of_each_table(
    record: Record, reader: Reader, connection: Any, plan: str
) -> None:
    await unique_violation(record)
    day = datetime.fromisoformat((await reader.trace(FAILED_ID)).started_at).date()
    await connection.execute(f"SET plan_cache_mode = {plan}")
    text = await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {of_day(Q.trace, day)}", FAILED_ID, day)
    tables = ("executions", "spans", "host_calls", "mutations", "logs")
    assert set(re.findall(r'"Relation Name": "(\w+)"', text)) == {f"{name}_{day:%Y%m%d}" for name in tables}


async def test_a_trace_takes_two_round_trips(record: Record, reader: Reader, connection: Any) -> None:
    await unique_violation(record)
    day = datetime.fromisoformat((await reader.trace(FAILED_ID)).started_at).date()
    asked: asyncio.Queue[str] = asyncio.Queue()
    with connection.query_logger(lambda statement: asked.put_nowait(statement.query)):
        await reader.trace(FAILED_ID)
        await connection.execute("SELECT 'end'")
        assert [await asked.get() for _ in range(3)] == [
            Q.by_prefix,
            of_day(Q.trace, day),
            "SELECT 'end'",
        ]
