"""Who had written the rows of a step, as of before it."""

from __future__ import annotations

from typing import Any

import pytest

from flux.query.reader import Reader
from tests.integration.query.recorded import Record

A, B, C = "a" * 32, "b" * 32, "c" * 32


@pytest.fixture
async def stock(connection: Any) -> None:
    await connection.execute("CREATE TABLE stock (id int PRIMARY KEY, qty int)")


@pytest.mark.usefixtures("stock")
async def test_the_rows_that_a_step_changed_or_read_name_their_writers(
    record: Record, reader: Reader
) -> None:
    await record.execution(B, ago=100)
    await record.mutation(B, "INSERT", {"id": 3}, None, {"id": 3, "qty": 5}, table="stock", ago=100)
    await record.execution(A)
    read = {"rows": [{"id": 3, "qty": 5}], "count": 1}
    await record.call(A, 1, "db.query", {"table": "stock", "operation": "select"}, read, span="c1")
    await record.mutation(
        A, "UPDATE", {"id": 3}, {"id": 3, "qty": 5}, {"id": 3, "qty": 4}, table="stock", ago=1
    )
    steps = await reader.steps(A)
    assert [step.kind for step in steps] == ["start", "call", "end"]
    for number in (2, 3):
        (writer,) = await reader.origins(steps.at(number))
        assert (writer.key, writer.column, writer.value, writer.request_id) == ({"id": 3}, "qty", 5, B)
    assert await reader.origins(steps.at(1)) == []
