"""A record written by plain SQL, as the drain and the triggers would have left it."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

SOURCE = """import { defineFunction } from "@flux/functions";

export default defineFunction({
  name: "create_user",
  handler: async ({ input, ctx }) => {
    const [user] = await ctx.db.query({ table: "users", operation: "insert", data: input });
    return { id: user.id };
  },
});
"""

FILE = """
UPDATE flux.mutations
SET row_hash = jsonb_hash_extended(coalesce(key, before), 0),
    moved = CASE WHEN op = 'UPDATE' AND NOT (before @> key AND after @> key) THEN true END
WHERE request_id = $1 AND n = $2
"""
"""What captures file a mutation by."""


class OneConnection:
    """A store with a single connection."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    @asynccontextmanager
    async def internal(self, *, patience: float | None = None) -> AsyncIterator[Any]:
        yield self.connection

    async def close(self) -> None:
        await self.connection.close()


class Record:
    """Writes executions and what belongs to them."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.now = datetime.now(UTC).replace(microsecond=0)
        self.n = 0

    async def _insert(self, table: str, values: dict[str, Any]) -> None:
        names = ", ".join(f'"{name}"' for name in values)
        slots = ", ".join(f"${at}" for at in range(1, len(values) + 1))
        await self.connection.execute(
            f"INSERT INTO flux.{table} ({names}) VALUES ({slots})", *values.values()
        )

    async def execution(self, request_id: str, ago: float = 60, **values: Any) -> str:
        """An execution begun `ago` seconds before now, with a root and a function span."""
        started = self.now - timedelta(seconds=ago)
        duration = values.pop("duration_ms", 14.2)
        spans = values.pop("spans", True)
        row = {
            "request_id": request_id,
            "day": started.date(),
            "trace_id": hashlib.md5(request_id.encode()).hexdigest(),
            "span_id": request_id[:14] + "aa",
            "trigger": "http",
            "function": "create_user",
            "deployment": "d" * 64,
            "node": "n1",
            "method": "POST",
            "url": "http://localhost:4000/create_user?x=1&x=2",
            "path": "/create_user",
            "route": "/create_user",
            "query": "x=1&x=2",
            "params": "{}",
            "request_headers": '[["content-type", "application/json"], ["x-tag", "a"], ["x-tag", "b"]]',
            "body": b'{"email": "ada@example.com"}',
            "output": b'{"id": 7}',
            "output_kind": "json",
            "response_headers": "[]",
            "status": 200,
            "outcome": "ok",
            "started_at": started,
            "duration_ms": duration,
            "record": "all",
        } | values
        await self._insert("executions", row)
        if spans:
            failed = "ERROR" if row["outcome"] == "error" else "UNSET"
            name = f"{row['method']} {row['path']}"
            await self.span(request_id, "aa", None, name, 0, duration, kind="SERVER", status=failed, ago=ago)
            if row["function"] and row["outcome"] != "rejected":
                attributes = {"faas.invocation_id": request_id}
                error = json.loads(row["error"]) if row.get("error") else None
                events = None
                if error:
                    attributes["error.type"] = error["type"]
                    about = {"exception.type": error["type"], "exception.message": error["message"]}
                    events = [{"name": "exception", "attributes": about}]
                await self.span(
                    request_id,
                    "bb",
                    "aa",
                    row["function"],
                    0.5,
                    duration - 1,
                    status=failed,
                    ago=ago,
                    attributes=attributes,
                    events=events,
                )
        return request_id

    async def span(
        self,
        request_id: str,
        span: str,
        parent: str | None,
        name: str,
        at_ms: float,
        ms: float,
        *,
        kind: str = "INTERNAL",
        status: str = "UNSET",
        ago: float = 60,
        attributes: dict[str, Any] | None = None,
        events: list[Any] | None = None,
        trace_id: str | None = None,
    ) -> None:
        """A span `at_ms` after the execution's start; ids are two digits behind the request's first
        fourteen.
        """
        started = self.now - timedelta(seconds=ago)
        start_ns = int(started.timestamp() * 1e9 + at_ms * 1e6)
        await self._insert(
            "spans",
            {
                "request_id": request_id,
                "day": started.date(),
                "span_id": request_id[:14] + span,
                "trace_id": trace_id or hashlib.md5(request_id.encode()).hexdigest(),
                "parent_span_id": None if parent is None else request_id[:14] + parent,
                "name": name,
                "kind": kind,
                "start_time": started + timedelta(milliseconds=at_ms),
                "start_ns": start_ns,
                "duration_ns": int(ms * 1e6),
                "status": status,
                "status_message": None,
                "attributes": json.dumps(attributes or {}),
                "events": json.dumps(events) if events else None,
            },
        )

    async def call(
        self,
        request_id: str,
        seq: int,
        op: str,
        arguments: Any,
        result: Any = None,
        *,
        at_ms: float = 2,
        ms: float = 1,
        span: str | None = None,
        error: Any = None,
        ago: float = 60,
        under: str = "bb",
        **values: Any,
    ) -> None:
        """A host call."""
        started = self.now - timedelta(seconds=ago)
        if span is not None:
            failed = "ERROR" if error else "UNSET"
            about = {"error.type": error["type"]} if error else {}
            await self.span(
                request_id,
                span,
                under,
                op,
                at_ms,
                ms,
                kind="CLIENT",
                status=failed,
                ago=ago,
                attributes=about,
            )
        await self._insert(
            "host_calls",
            {
                "request_id": request_id,
                "day": started.date(),
                "seq": seq,
                "op": op,
                "arguments": json.dumps(arguments).encode(),
                "result": None if result is None else json.dumps(result).encode(),
                "error": json.dumps(error) if error else None,
                "status": "done",
                "started": seq * 2,
                "delivered": seq * 2 + 1,
                "at": started + timedelta(milliseconds=at_ms),
                "duration_ms": ms,
                "span_id": None if span is None else request_id[:14] + span,
                "parent_span_id": request_id[:14] + "bb",
            }
            | values,
        )

    async def mutation(
        self,
        request_id: str,
        op: str,
        key: Any,
        before: Any,
        after: Any,
        *,
        table: str = "users",
        ago: float = 60,
        n: int | None = None,
        **values: Any,
    ) -> int:
        """A mutation; returns its order number."""
        self.n = self.n + 32 if n is None else n
        started = self.now - timedelta(seconds=ago)
        await self._insert(
            "mutations",
            {
                "request_id": request_id,
                "day": started.date(),
                "n": self.n,
                "xid": 1000,
                "system_id": 1,
                "schema_name": "public",
                "table_name": table,
                "op": op,
                "key": json.dumps(key),
                "before": None if before is None else json.dumps(before),
                "after": None if after is None else json.dumps(after),
                "at": started,
                "origin": "flux",
                "actor": "flux_app",
            }
            | values,
        )
        await self.connection.execute(FILE, request_id, self.n)
        return self.n

    async def log(
        self, request_id: str, seq: int, level: str, message: str, *, ago: float = 60, **values: Any
    ) -> None:
        """A log line."""
        started = self.now - timedelta(seconds=ago)
        await self._insert(
            "logs",
            {
                "request_id": request_id,
                "day": started.date(),
                "seq": seq,
                "at": started + timedelta(milliseconds=seq),
                "level": level,
                "message": message,
                "fields": None,
                "span_id": request_id[:14] + "bb",
            }
            | values,
        )

    async def deployment(self, identity: str = "d" * 64, source: str = SOURCE) -> None:
        """A stored deployment of create_user."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            info = tarfile.TarInfo("create_user/index.ts")
            info.size = len(source.encode())
            tar.addfile(info, io.BytesIO(source.encode()))
        await self._insert(
            "deployments",
            {
                "id": identity,
                "function": "create_user",
                "created_at": self.now,
                "runtime": "typescript",
                "entry": "create_user/index.ts",
                "config": "{}",
                "manifest": "{}",
                "bundle": buffer.getvalue(),
                "engine": "{}",
            },
        )
        await self.connection.execute(
            "INSERT INTO flux.functions"
            " VALUES ('create_user', $1, 'typescript', '/create_user', 'POST', '{}', now())"
            " ON CONFLICT DO NOTHING",
            identity,
        )


OK_ID = "88ee" + "0" * 28
FAILED_ID = "9f3c2a1b" + "0" * 24
DUPLICATE = 'duplicate key value violates unique constraint "users_email_key"'


async def unique_violation(record: Record) -> None:
    """create_user went well once, then again with the same email: an order was written first and rolled
    back.
    """
    await record.deployment()
    await record.execution(OK_ID, ago=300)
    n = await record.mutation(
        OK_ID, "INSERT", {"id": 7}, None, {"id": 7, "email": "ada@example.com"}, ago=300
    )
    insert = {"table": "users", "operation": "insert", "data": {"email": "ada@example.com"}}
    rows = {"rows": [{"id": 7, "email": "ada@example.com"}], "count": 1}
    await record.call(OK_ID, 1, "db.query", insert, rows, span="c1", ago=300, first_n=n, last_n=n, xid=1000)
    error = {
        "type": "unique_violation",
        "message": DUPLICATE,
        "file": "functions/create_user/index.ts",
        "line": 6,
        "column": 26,
        "stack": "unique_violation: ...",
    }
    await record.execution(FAILED_ID, status=500, outcome="error", output=None, error=json.dumps(error))
    await record.call(FAILED_ID, 1, "db.begin", {}, {}, span="c1", at_ms=1, ms=10, xid=1001)
    order = {"text": "insert into orders (item)\n values ($1) returning *", "params": ["tea"]}
    await record.call(
        FAILED_ID,
        2,
        "db.sql",
        order,
        {"rows": [{"id": 1}], "count": 1},
        span="c2",
        at_ms=2,
        tx=1,
        xid=1001,
        under="c1",
    )
    detail = {
        "sqlstate": "23505",
        "table": "users",
        "schema": "public",
        "constraint": "users_email_key",
        "detail": "Key (email)=(ada@example.com) already exists.",
    }
    failure = {"type": "unique_violation", "message": DUPLICATE, "detail": detail}
    await record.call(
        FAILED_ID, 3, "db.query", insert, span="c3", at_ms=4, ms=1.5, tx=1, error=failure, under="c1"
    )
    await record.call(FAILED_ID, 4, "db.rollback", {}, {}, at_ms=11, tx=1)
    await record.mutation(
        FAILED_ID,
        "INSERT",
        {"id": 1},
        None,
        {"id": 1, "item": "tea"},
        table="orders",
        rolled_back=True,
        seq=2,
        xid=1001,
    )
    await record.log(FAILED_ID, 5, "warn", "about to \x1b[31mfail")
