"""The schema `flux` is described whole, and docs/schema.md says what it is."""

from __future__ import annotations

import asyncpg

from tests.schema_page import PAGE, render, undescribed


async def test_every_table_and_column_has_a_comment(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        assert await undescribed(connection) == []
    finally:
        await connection.close()


async def test_the_page_is_what_the_migrations_make(database_url: str) -> None:
    """The sum of the migrations, as the tables, columns, keys and indexes that it comes to."""
    connection = await asyncpg.connect(database_url)
    try:
        assert await render(connection) == PAGE.read_text(encoding="utf-8"), "stale: run scripts/schema"
    finally:
        await connection.close()
