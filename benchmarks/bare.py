"""The baseline: bare Quart on Hypercorn with uvloop, answering by itself; `/insert` stores one row through
asyncpg's pool. That resets a connection on each release, by a round trip; `--no-reset` leaves it out, which
only a program may whose statements leave nothing behind.

    python benchmarks/bare.py PORT DATABASE [--no-reset]
"""

from __future__ import annotations

import sys

import asyncpg
import uvloop
from hypercorn.asyncio import serve
from hypercorn.config import Config
from quart import Quart, request

app = Quart("bare")
pool: asyncpg.Pool


@app.get("/hello")
async def hello() -> dict[str, str]:
    return {"message": f"Hello, {request.args.get('name', 'world')}!"}


@app.post("/insert")
async def insert() -> dict[str, str]:
    data = await request.get_json()
    async with pool.acquire() as connection:
        row = await connection.fetchrow("insert into notes (text) values ($1) returning *", data["text"])
    return {"id": str(row["id"])}


async def leave(_connection: object) -> None:
    """Instead of a reset."""


async def main(port: int, database: str, *, reset: bool = True) -> None:
    """Serve until a signal."""
    global pool
    pool = await asyncpg.create_pool(database, min_size=16, max_size=16, reset=None if reset else leave)
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.loglevel = "WARNING"
    config.keep_alive_max_requests = 2**31
    await serve(app, config)


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2], reset="--no-reset" not in sys.argv))
