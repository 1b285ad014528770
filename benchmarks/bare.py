"""The baseline: bare Quart on Hypercorn with uvloop, answering by itself; with `--insert` one row through
asyncpg.
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


async def main(port: int, database: str) -> None:
    global pool
    pool = await asyncpg.create_pool(database, min_size=16, max_size=16)
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.loglevel = "WARNING"
    config.keep_alive_max_requests = 2**31
    await serve(app, config)


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2]))
