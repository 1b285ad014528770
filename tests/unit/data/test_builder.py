"""db.query's specification becomes SQL: quoted names, bound values, and refusals that say where."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import orjson
import pytest

from flux.data.builder import build
from flux.data.errors import Refused


def sql(**spec: Any) -> tuple[str, list[Any]]:
    query = build(orjson.dumps(spec))
    return query.text, query.params


def refusal(**spec: Any) -> str:
    with pytest.raises(Refused) as caught:
        build(orjson.dumps(spec))
    assert caught.value.type == "invalid_parameter"
    return caught.value.message


def test_select_takes_columns_filters_order_and_a_page() -> None:
    assert sql(
        table="app.users",
        operation="select",
        columns=["id", "name"],
        filters={"age": {"gte": 18, "lt": 65}, "name": None, "id": [1, 2]},
        order=["-created_at", {"column": "name", "direction": "asc", "nulls": "last"}],
        limit=10,
        offset=20,
    ) == (
        'SELECT "id", "name" FROM "app"."users" '
        'WHERE "age" >= $1 AND "age" < $2 AND "name" IS NULL AND "id" = ANY($3)'
        ' ORDER BY "created_at" DESC, "name" ASC NULLS LAST LIMIT $4::bigint OFFSET $5::bigint',
        [18, 65, [1, 2], 10, 20],
    )


def test_names_are_quoted_so_that_they_can_only_be_names() -> None:
    text, params = sql(table='t"; drop table x', operation="select", filters={'a" or 1=1 --': "x"})
    assert text == 'SELECT * FROM "t""; drop table x" WHERE "a"" or 1=1 --" = $1'
    assert params == ["x"]


def test_insert_of_one_row_returns_it() -> None:
    assert sql(table="t", operation="insert", data={"a": 1, "b": {"x": [1]}}) == (
        'INSERT INTO "t" ("a", "b") VALUES ($1, $2) RETURNING *',
        [1, {"x": [1]}],
    )


def test_rows_of_one_insert_may_leave_columns_to_their_defaults() -> None:
    assert sql(table="t", operation="insert", data=[{"a": 1}, {"b": 2, "a": None}], returning=["a"]) == (
        'INSERT INTO "t" ("a", "b") VALUES ($1, DEFAULT), ($2, $3) RETURNING "a"',
        [1, None, 2],
    )


def test_an_empty_row_is_all_defaults_and_an_empty_returning_returns_nothing() -> None:
    assert sql(table="t", operation="insert", data={}, returning=[]) == ('INSERT INTO "t" DEFAULT VALUES', [])


def test_numbers_stay_exact() -> None:
    data = b'{"a":12345678901234567890123,"b":0.1234567890123456789012}'
    spec = b'{"table":"t","operation":"insert","data":' + data + b"}"
    assert build(spec).params == [12345678901234567890123, Decimal("0.1234567890123456789012")]


@pytest.mark.parametrize(
    ("conflict", "clause"),
    [
        ({"do": "nothing"}, " ON CONFLICT DO NOTHING"),
        ({"columns": ["a"], "do": "nothing"}, ' ON CONFLICT ("a") DO NOTHING'),
        ({"columns": ["a"]}, ' ON CONFLICT ("a") DO UPDATE SET "b" = EXCLUDED."b"'),
        (
            {"constraint": "t_a", "do": "update", "update": ["a"]},
            ' ON CONFLICT ON CONSTRAINT "t_a" DO UPDATE SET "a" = EXCLUDED."a"',
        ),
    ],
)
def test_upsert(conflict: dict[str, Any], clause: str) -> None:
    text, _ = sql(table="t", operation="insert", data={"a": 1, "b": 2}, on_conflict=conflict, returning=[])
    assert text == f'INSERT INTO "t" ("a", "b") VALUES ($1, $2){clause}'


def test_update_and_delete_return_the_rows() -> None:
    assert sql(table="t", operation="update", filters={"id": 1}, data={"a": 2}) == (
        'UPDATE "t" SET "a" = $1 WHERE "id" = $2 RETURNING *',
        [2, 1],
    )
    assert sql(table="t", operation="delete", filters={"id": {"ne": None}}) == (
        'DELETE FROM "t" WHERE "id" IS NOT NULL RETURNING *',
        [],
    )


@pytest.mark.parametrize(
    ("filters", "condition", "params"),
    [
        ({"a": {"in": [1, 2]}}, '"a" = ANY($1)', [[1, 2]]),
        ({"a": {"not_in": [1]}}, '"a" <> ALL($1)', [[1]]),
        ({"a": {"like": "x%"}}, '"a" LIKE $1', ["x%"]),
        ({"a": {"ilike": "x%"}}, '"a" ILIKE $1', ["x%"]),
        ({"a": {"is_null": False}}, '"a" IS NOT NULL', []),
        ({"a": {"between": [1, 5]}}, '"a" BETWEEN $1 AND $2', [1, 5]),
        ({"a": {"$bytea": "AA=="}}, '"a" = $1', [{"$bytea": "AA=="}]),
        ({"or": [{"a": 1}, {"b": 2, "c": 3}]}, '(("a" = $1) OR ("b" = $2 AND "c" = $3))', [1, 2, 3]),
        ({"or": []}, "false", []),
        ({"and": [{"a": 1}, {"not": {"b": 2}}]}, '(("a" = $1) AND (NOT ("b" = $2)))', [1, 2]),
        ({"a": {"eq": [1]}}, '"a" = $1', [[1]]),
    ],
)
def test_filters(filters: dict[str, Any], condition: str, params: list[Any]) -> None:
    assert sql(table="t", operation="select", filters=filters) == (
        f'SELECT * FROM "t" WHERE {condition}',
        params,
    )


@pytest.mark.parametrize("table", ["notes", "my.notes", r"odd \" name", "a.b.c", "", "\\ud800"])
@pytest.mark.parametrize(
    "data",
    [
        '{"a": 1, "b": "two", "c": true, "d": null}',
        '{"a": 1.0, "b": 1e400, "c": -0, "d": -0.0, "e": 0.1000}',
        f'{{"a": {2**63}, "b": -{2**64}, "c": {10**40}}}',
        '{"a": 1, "b": 2, "a": 3}',
        '{"a": "\\u0000\\u00e9\\ud83d\\ude00 \u00e9"}',
        '{"a": "\\ud800"}',
        '{"\\ud800": 1}',
        '{"": 1}',
        '{"a": [1, 2], "b": {"c": 1.50}}',
        '{"a": {"$bytea": "AA=="}}',
        "{}",
        "[]",
        '[{"a": 1}]',
        "null",
        "7",
    ],
)
def test_one_row_is_read_at_once_and_comes_to_the_same(table: str, data: str) -> None:
    def built(more: str) -> tuple[Any, ...]:
        document = f'{{"table": "{table}", "operation": "insert", "data": {data}{more}}}'
        try:
            query = build(document.encode())
        except (Refused, msgspec.DecodeError) as error:
            return type(error), str(error)
        values = [(type(value).__name__, repr(value), getattr(value, "text", None)) for value in query.params]
        return query.text, values, query.operation, query.table

    assert built("") == built(', "returning": null')


def test_the_same_shape_gives_the_same_text() -> None:
    one = sql(table="t", operation="select", filters={"a": 1}, limit=1)[0]
    assert one == sql(table="t", operation="select", filters={"a": "other"}, limit=99)[0]


@pytest.mark.parametrize("operation", ["update", "delete"])
def test_every_row_must_be_asked_for_by_name(operation: str) -> None:
    data = {"data": {"a": 1}} if operation == "update" else {}
    assert "would touch every row" in refusal(table="t", operation=operation, **data)
    assert "would touch every row" in refusal(table="t", operation=operation, filters={}, **data)
    assert '"filters": {}' in refusal(table="t", operation=operation, all=True, **data)
    assert "leave one of them out" in refusal(
        table="t", operation=operation, filters={"a": 1}, all=True, **data
    )
    text, _ = sql(table="t", operation=operation, filters={}, all=True, **data)
    assert "WHERE" not in text


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"operation": "select"}, "table is missing"),
        ({"table": "t"}, "operation is missing"),
        ({"table": "t", "operation": "selct"}, "unknown operation `selct`; did you mean `select`?"),
        (
            {"table": "t", "operation": "select", "filter": {}},
            "unknown key `filter`; did you mean `filters`?",
        ),
        ({"table": "t", "operation": "select", "data": {}}, "`data` has no meaning in `select`"),
        (
            {"table": "t", "operation": "select", "filters": {"a": {"gtt": 1}}},
            "unknown operator `gtt` in filters.a; did you mean `gt`",
        ),
        ({"table": "t", "operation": "select", "filters": {"a": {"gt": None}}}, "filters.a.gt is null"),
        ({"table": "t", "operation": "select", "filters": {"or": {"a": 1}}}, "filters.or must be a list"),
        (
            {"table": "t", "operation": "select", "filters": {"a": {"between": [1]}}},
            "filters.a.between must be",
        ),
        ({"table": "t", "operation": "select", "limit": -1}, "limit must be a whole number"),
        ({"table": "t", "operation": "select", "limit": "1; drop table t"}, "limit must be a whole number"),
        (
            {"table": "t", "operation": "select", "order": [{"column": "a", "direction": "up"}]},
            "order[0].direction",
        ),
        ({"table": "t", "operation": "select", "columns": []}, "`columns` is an empty list"),
        ({"table": "a.b.c", "operation": "select"}, "table `a.b.c`"),
        ({"table": "t", "operation": "insert"}, "`insert` needs `data`"),
        ({"table": "t", "operation": "insert", "data": []}, "nothing to insert"),
        ({"table": "t", "operation": "insert", "data": [1]}, "data[0] must be an object"),
        ({"table": "t", "operation": "update", "data": {}, "filters": {"a": 1}}, "nothing to update"),
        (
            {"table": "t", "operation": "insert", "data": {"a": 1}, "on_conflict": {"colums": ["a"]}},
            "unknown key `colums` in on_conflict; did you mean `columns`?",
        ),
        (
            {"table": "t", "operation": "insert", "data": {"a": 1}, "on_conflict": {"columns": ["a"]}},
            "no columns to update",
        ),
    ],
)
def test_what_it_does_not_know_it_refuses_and_says_where(spec: dict[str, Any], says: str) -> None:
    assert says in refusal(**spec)


def test_filters_nested_without_end_are_refused() -> None:
    filters: dict[str, Any] = {"a": 1}
    for _ in range(50):
        filters = {"not": filters}
    assert "nested too deeply" in refusal(table="t", operation="select", filters=filters)
