"""The page docs/schema.md: every table of `flux.*`, as the database describes it by its comments.

`scripts/schema` writes it, tests/integration/store/test_schema.py says when it is stale.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from itertools import groupby
from pathlib import Path

import asyncpg

from flux.store import embedded, migrate

PAGE = Path(__file__).parents[1] / "docs" / "schema.md"
_QUERY = (Path(__file__).parent / "schema_page.sql").read_text(encoding="utf-8")
_HEAD = """# The schema `flux`

What Flux keeps, in the order of `migrations/`. These are plain tables: ask them with SQL (`flux query`).
The role that functions run as can't reach them. Partitions (`executions_20260131`) are left out.

`scripts/schema` writes this page from the comments in the database. Edit the comments in `migrations/`.
"""


async def render(connection: asyncpg.Connection) -> str:
    """The page's text for a database that has the migrations."""
    parts = [_HEAD]
    for _, group in groupby(await connection.fetch(_QUERY), lambda row: row["relation"]):
        rows = list(group)
        first = rows[0]
        parts.append(f"## flux.{first['name']}\n\n{first['meaning'] or ''}\n")
        lines = ["| column | type | meaning |", "|---|---|---|"]
        lines += [f"| `{row['column']}` | {row['type']} | {_cell(row['of_column'])} |" for row in rows]
        parts.append("\n".join(lines) + "\n")
        if first["keys"]:
            parts.append("\n".join(f"- {key}" for key in first["keys"]) + "\n")
    return "\n".join(parts)


async def undescribed(connection: asyncpg.Connection) -> list[str]:
    """Tables and columns without a comment: `table` or `table.column`."""
    found = []
    for row in await connection.fetch(_QUERY):
        if not row["meaning"]:
            found.append(row["name"])
        if not row["of_column"]:
            found.append(f"{row['name']}.{row['column']}")
    return sorted(set(found))


def _cell(text: str | None) -> str:
    return (text or "").replace("|", "\\|")


async def _write() -> None:
    folder = Path(tempfile.mkdtemp(prefix="flux-", dir="/tmp"))
    folder.chmod(0o755)
    lease = embedded.acquire(folder / ".flux")
    try:
        connection = await asyncpg.connect(**lease.connect_args)
        await migrate.apply(connection)
        PAGE.write_text(await render(connection), encoding="utf-8")
        await connection.close()
    finally:
        lease.close()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    asyncio.run(_write())
