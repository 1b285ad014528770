"""The baseline of hello: a raw ASGI application on Hypercorn with uvloop. No framework, JSON in and out.

It answers the request that Flux's function answers, with the same body. `/insert` stores one row through
asyncpg's pool, which resets a connection on each release.

    python benchmarks/raw.py PORT DATABASE
"""

from __future__ import annotations

import sys
from typing import Any
from urllib.parse import parse_qsl

import asyncpg
import orjson
import uvloop
from hypercorn.asyncio import serve
from hypercorn.config import Config

pool: asyncpg.Pool


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer one request; what is asked for otherwise is 404."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    status, answer = 200, b""
    match scope["method"], scope["path"]:
        case "GET", "/hello":
            given = dict(parse_qsl(scope["query_string"].decode("latin-1")))
            answer = orjson.dumps({"message": f"Hello, {given.get('name', 'world')}!"})
        case "POST", "/insert":
            data = orjson.loads(body)
            async with pool.acquire() as connection:
                row = await connection.fetchrow(
                    "insert into notes (text) values ($1) returning *", data["text"]
                )
            answer = orjson.dumps({"id": str(row["id"])})
        case _:
            status = 404
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


async def lifespan(scope: Any, receive: Any, send: Any) -> None:
    """Hypercorn's entry: the application, and its start and end."""
    if scope["type"] != "lifespan":
        await app(scope, receive, send)
        return
    while (await receive())["type"] != "lifespan.shutdown":
        await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})


async def main(port: int, database: str) -> None:
    """Serve until a signal."""
    global pool
    pool = await asyncpg.create_pool(database, min_size=16, max_size=16)
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.loglevel = "WARNING"
    config.keep_alive_max_requests = 2**31
    await serve(lifespan, config)


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2]))
