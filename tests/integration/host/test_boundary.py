"""The boundary whole: Recording around Live, with a real recorder, database session and HTTP server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from opentelemetry import trace

from flux.config import Config
from flux.data.database import UserDatabase
from flux.data.install import install
from flux.host.fetch import FetchClient
from flux.host.jobs import Jobs
from flux.host.live import Live
from flux.host.recording import Recording
from flux.host.secrets import Secrets
from flux.record.call import HostCall, Outcome
from flux.store.database import Store
from tests.integration.host.local_http import HttpServer, Received, answer
from tests.integration.host.local_record import Record, recording, spans


class Boundary:
    """One execution's host, and what is behind it."""

    def __init__(self, record: Record, store: Store, host: Recording) -> None:
        self.record = record
        self.store = store
        self.host = host
        self._n = 0

    async def call(self, op: str, tx: int | None = None, **arguments: Any) -> Any:
        """Ask; gives the result parsed."""
        self._n += 1
        outcome = await self.host.perform(HostCall(op, json.dumps(arguments).encode(), self._n, tx))
        assert outcome.error is None, outcome.error
        return json.loads(outcome.result or b"null")

    async def begin(self) -> int:
        await self.call("db.begin")
        return self._n


@pytest.fixture
async def boundary(store_config: Config, tmp_path: Path) -> AsyncIterator[Boundary]:
    async def invoke(name: str, payload: bytes) -> Outcome:
        raise AssertionError("nothing invokes")

    async with await Store.open(store_config, application_name="test") as store:
        async with store.internal() as connection:
            await connection.execute("CREATE TABLE notes (id int PRIMARY KEY)")
            await install(connection)
        user = await UserDatabase.open(store, size=2)
        with recording(tmp_path / "spool") as record:
            tracer = record.provider.get_tracer("test")
            fetch, jobs = FetchClient(tracer=tracer), Jobs(store, tracer=tracer)
            execution = record.execution
            live = Live(
                request_id=execution.request_id,
                session=user.session(execution.request_id, execution.day),
                fetch=fetch,
                jobs=jobs,
                secrets=Secrets(record.redaction, {"TOKEN": "hunter2hunter2"}, master_key=bytes(32)),
                invoke=invoke,
            )
            host = Recording(live, execution, record.context, tracer=tracer)
            yield Boundary(record, store, host)
            await host.close()
            await jobs.close()
            await fetch.close()
        await user.close()


async def test_a_server_sees_a_request_only_when_its_intent_is_on_disk(
    boundary: Boundary, server: HttpServer
) -> None:
    seen: list[list[tuple[str, str, bytes]]] = []

    async def look(request: Received, writer: asyncio.StreamWriter) -> None:
        calls = [call for intent in boundary.record.intents() for call in intent.calls]
        seen.append([(call.op, call.status, call.arguments) for call in calls])
        await answer(body=b"ok")(request, writer)

    server.routes["/pay"] = look
    await boundary.call("sleep", ms=0)
    await boundary.call("fetch", url=server.url("/pay"), method="POST")
    (calls,) = seen
    assert [(op, status) for op, status, _ in calls] == [("sleep", "done"), ("fetch", "unknown")]
    assert json.loads(calls[1][2]) == {"url": server.url("/pay"), "method": "POST"}


async def test_a_fetchs_span_and_call_know_each_other_and_the_receiver_gets_the_span(
    boundary: Boundary, server: HttpServer
) -> None:
    server.routes["/x"] = answer()
    await boundary.call("fetch", url=server.url("/x"))
    span = spans(boundary.record.end())["GET"]
    call = boundary.record.calls()[1]
    assert call.span_id == span["span_id"]
    assert span["attributes"]["flux.call"] == call.seq
    assert span["parent"] == boundary.record.function_span_id
    (sent,) = server.got[0].values("traceparent")
    assert sent.split("-")[1:3] == [boundary.record.execution.trace_id, call.span_id]


async def test_a_push_in_a_transaction_exists_with_its_rows_or_not_at_all(boundary: Boundary) -> None:
    gone = await boundary.begin()
    await boundary.call("db.sql", tx=gone, text="insert into notes values (1)", params=[])
    await boundary.call("queue.push", tx=gone, name="gone", payload={})
    await boundary.call("db.rollback", tx=gone)
    kept = await boundary.begin()
    await boundary.call("db.sql", tx=kept, text="insert into notes values (2)", params=[])
    pushed = await boundary.call("queue.push", tx=kept, name="kept", payload={"a": 1}, options={"delay": 5})
    seq = boundary._n
    await boundary.call("db.commit", tx=kept)
    async with boundary.store.internal() as connection:
        rows = await connection.fetch("SELECT * FROM flux.jobs")
        assert await connection.fetchval("SELECT array_agg(id) FROM notes") == [2]
    (row,) = rows
    assert (row["id"], row["name"], row["payload"]) == (pushed["id"], "kept", b'{"a": 1}')
    assert (row["pushed_by"], row["pushed_seq"]) == (boundary.record.execution.request_id, seq)
    span = spans(boundary.record.end())["send kept"]
    assert row["traceparent"].split("-")[1:3] == [span["trace_id"], span["span_id"]]
    assert boundary.record.calls()[seq].span_id == span["span_id"]
    sent = [
        call.op for intent in boundary.record.intents() for call in intent.calls if call.status == "unknown"
    ]
    assert sent == ["db.commit"]


async def test_functions_reach_the_queue_by_a_host_call_alone(boundary: Boundary) -> None:
    assert boundary.store.protected
    connection = await asyncpg.connect(**boundary.store.app_connect_args)
    try:
        for sql in (
            "SELECT * FROM flux.jobs",
            "SELECT flux.enqueue('a', 'null', 0, null, 1, null, null, null)",
            "UPDATE flux.jobs SET status = 'done'",
            "SELECT flux.push_job('mine', 'null')",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(sql)
    finally:
        await connection.close()


async def test_a_secret_goes_to_the_function_and_never_to_the_record(
    boundary: Boundary, server: HttpServer
) -> None:
    server.routes["/x"] = answer(body=b"you said hunter2hunter2")
    token = (await boundary.call("secrets.get", key="TOKEN"))["value"]
    assert token == "hunter2hunter2"
    await boundary.call("fetch", url=server.url("/x?t=" + token), headers=[["x-mine", token]])
    boundary.record.end()
    calls = boundary.record.calls()
    read = json.loads(calls[1].result or b"")
    assert (read["name"], read["found"], len(read["version"])) == ("TOKEN", True, 12)
    for path in boundary.record.spool.folder.iterdir():
        assert b"hunter2hunter2" not in path.read_bytes()
    assert trace.get_current_span() is trace.INVALID_SPAN
