"""The same work with DBOS, as its documentation shows it: FastAPI in front, each request a workflow; the
INSERT is a step, through asyncpg in the database that DBOS keeps its own tables in. Uvicorn with uvloop and
httptools.

    benchmarks/.venv/bin/python benchmarks/durable.py PORT DATABASE [--worker N]
"""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import uvicorn
from dbos import DBOS, DBOSConfig
from fastapi import FastAPI

given: argparse.Namespace
pool: asyncpg.Pool


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """The pool and DBOS, for as long as the server runs."""
    global pool
    pool = await asyncpg.create_pool(given.database, min_size=16, max_size=16)
    DBOS.launch()
    yield
    DBOS.destroy()
    await pool.close()


app = FastAPI(lifespan=lifespan)


@DBOS.step()
async def store(text: str) -> str:
    """The INSERT."""
    async with pool.acquire() as connection:
        row = await connection.fetchrow("insert into notes (text) values ($1) returning *", text)
    return str(row["id"])


@app.get("/hello")
@DBOS.workflow()
async def hello(name: str = "world") -> dict[str, str]:
    """A workflow without a step."""
    return {"message": f"Hello, {name}!"}


@app.post("/insert")
@DBOS.workflow()
async def insert(data: dict[str, Any]) -> dict[str, str]:
    """A workflow with one step."""
    return {"id": await store(data["text"])}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("database")
    parser.add_argument("--worker", type=int, default=0)
    given = parser.parse_args()
    config: DBOSConfig = {
        "name": "bench",
        "system_database_url": given.database,
        "executor_id": f"worker-{given.worker}",
        "application_version": "1",
        "log_level": "WARNING",
    }
    DBOS(config=config)
    uvicorn.run(app, host="127.0.0.1", port=given.port, log_level="warning", access_log=False)
