"""Statements within a statement: whatever its expressions write, the log's order is the order of the writes.

A table without triggers of the user's is captured at its statements' ends. A volatile function in SET, WHERE,
RETURNING, a default, a check or a common table expression writes the same table in the middle of one.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise

import asyncpg
import pytest

from tests.integration.data.capture.owner import Owner, backward, by_key, forward

SCHEMA = """
CREATE FUNCTION inner_write(k int, salt int) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    other int := 1 + (k * 7 + salt) % 9;
BEGIN
    IF current_setting('test.deep', true) = 'off' THEN
        RETURN salt;
    END IF;
    CASE (k * 13 + salt * 5) % 8
        WHEN 0 THEN UPDATE h SET v = v + 1 WHERE id < k;
        WHEN 1 THEN DELETE FROM h WHERE id = k - 1;
        WHEN 2 THEN INSERT INTO h (id, v) VALUES (other, salt) ON CONFLICT (id) DO NOTHING;
        WHEN 3 THEN UPDATE h SET v = -v WHERE id < k; UPDATE h SET v = -v WHERE id < k;
        WHEN 4 THEN DELETE FROM h WHERE id = k - 2; INSERT INTO h (id, v) SELECT k - 2, salt WHERE k > 2;
        WHEN 5 THEN UPDATE h SET id = id + 20 WHERE id = k - 1;
        WHEN 6 THEN
            BEGIN DELETE FROM h; RAISE EXCEPTION 'undo'; EXCEPTION WHEN raise_exception THEN NULL; END;
        ELSE UPDATE loose SET b = b || salt WHERE a <= k; DELETE FROM loose WHERE a = k - 2;
    END CASE;
    RETURN salt;
END $$;
CREATE FUNCTION deeper(k int, salt int) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
    UPDATE h SET v = inner_write(id, salt + 1) WHERE id = k - 1;
    RETURN salt;
END $$;
CREATE FUNCTION by_default() RETURNS int LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('test.deep', true) <> 'off' THEN
        UPDATE h SET v = v * 10 WHERE id IN (SELECT max(id) FROM h);
    END IF;
    RETURN 5;
END $$;
CREATE FUNCTION checked(k int) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF k % 4 = 3 AND current_setting('test.deep', true) <> 'off' THEN
        UPDATE h SET w = w + 1 WHERE id < k;
    END IF;
    RETURN true;
END $$;
CREATE TABLE h (id int PRIMARY KEY, v int, w int NOT NULL DEFAULT by_default());
CREATE TABLE loose (a int, b text);
"""
TABLES = ["h", "loose"]
EXPECTED = (
    asyncpg.UniqueViolationError,
    asyncpg.CardinalityViolationError,
    asyncpg.TriggeredDataChangeViolationError,
    asyncpg.NumericValueOutOfRangeError,
)


def workload(r: random.Random, chains: bool) -> str:
    most = 1000 if chains else 100
    i, salt, lo = r.randint(1, 9), r.randint(0, 9), r.randint(1, 5)
    f = r.choice(["inner_write", "inner_write", "deeper"])
    made: list[Callable[[], str]] = [
        lambda: f"UPDATE h SET v = {f}(id, {salt})",
        lambda: f"UPDATE h SET v = {salt} WHERE id >= {lo} AND {f}(id, {salt}) >= 0",
        lambda: f"UPDATE h SET v = {salt} WHERE id >= {lo} RETURNING {f}(id, {salt})",
        lambda: f"UPDATE h SET id = id + 100, v = {f}(id, {salt}) WHERE id > {lo} AND id < {most}",
        lambda: f"UPDATE h SET id = id - 100 WHERE id > 100 AND {f}(id - 100, {salt}) >= 0",
        lambda: f"DELETE FROM h WHERE id > {lo} AND {f}(id, {salt}) >= 0",
        lambda: f"DELETE FROM h WHERE id > {lo} RETURNING {f}(id, {salt})",
        lambda: (
            f"INSERT INTO h (id, v) SELECT g, {f}(g, {salt}) FROM generate_series({lo}, {lo + 3}) g"
            " ON CONFLICT (id) DO NOTHING"
        ),
        lambda: (
            f"INSERT INTO h (id, v) SELECT g, {salt} FROM generate_series({lo}, {lo + 3}) g"
            f" ON CONFLICT (id) DO UPDATE SET v = {f}(h.id, {salt}) RETURNING {f}(id, {salt + 1})"
        ),
        lambda: f"INSERT INTO h (id, v) VALUES ({i}, 1), ({i + 1}, 2), ({i + 10}, 3) ON CONFLICT DO NOTHING",
        lambda: (
            f"MERGE INTO h USING generate_series({lo}, {lo + 4}) g ON h.id = g"
            f" WHEN MATCHED AND h.id % 2 = 0 THEN DELETE WHEN MATCHED THEN UPDATE SET v = {f}(h.id, {salt})"
            f" WHEN NOT MATCHED THEN INSERT (id, v) VALUES (g, {f}(g, {salt}))"
        ),
        lambda: (
            f"WITH gone AS (DELETE FROM h WHERE id > {lo} RETURNING *)"
            f" INSERT INTO h SELECT id + 50, {f}(id, {salt}), w FROM gone ON CONFLICT DO NOTHING"
        ),
        lambda: (
            f"WITH w AS (UPDATE h SET v = {salt} WHERE id < {lo} RETURNING id)"
            f" INSERT INTO loose SELECT id, 'w' || {f}(id, {salt}) FROM w"
        ),
        lambda: f"INSERT INTO loose SELECT g, 'x' || {f}(g, {salt}) FROM generate_series(1, {lo}) g",
        lambda: f"UPDATE loose SET b = 'same' WHERE {f}(a, {salt}) >= 0",
        lambda: f"UPDATE loose SET b = 'y' || {f}(a, {salt})",
        lambda: f"DELETE FROM loose WHERE a > {lo} AND {f}(a, {salt}) >= 0",
        lambda: f"SELECT {f}(g, {salt}) FROM generate_series(1, {lo}) g",
        lambda: (
            f"DO $$ BEGIN PERFORM {f}({i}, {salt}); UPDATE h SET v = 1 WHERE id = {i};"
            f" UPDATE h SET v = 2 WHERE id = {i}; UPDATE h SET v = 1 WHERE id = {i};"
            f" DELETE FROM h WHERE id = {i}; INSERT INTO h (id, v) VALUES ({i}, 1); END $$"
        ),
    ]
    return r.choice(made)()


@pytest.mark.parametrize("mode", ["statement", "row", "check"])
@pytest.mark.parametrize("seed", range(3))
async def test_what_expressions_write_is_played_backward_and_forward(
    owner: Owner, seed: int, mode: str
) -> None:
    r = random.Random(seed)
    await owner.run(SCHEMA)
    if mode == "row":
        await owner.run(
            "CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
            "CREATE TRIGGER x AFTER INSERT ON h FOR EACH ROW EXECUTE FUNCTION nothing()",
            "CREATE TRIGGER x AFTER INSERT ON loose FOR EACH ROW EXECUTE FUNCTION nothing()",
        )
    if mode == "check":
        await owner.run("ALTER TABLE h ADD CHECK (checked(id))")
    if seed % 2:
        await owner.context()
    initial = await owner.state(TABLES)
    states = [(0, initial)]
    done = 0
    for _ in range(60):
        transaction = owner.connection.transaction()
        await transaction.start()
        try:
            for _ in range(r.randint(1, 3)):
                await owner.connection.execute(workload(r, chains=mode != "row"))
            await transaction.commit()
            done += 1
        except EXPECTED:
            if owner.connection.is_in_transaction():
                await transaction.rollback()
            continue
        last = await owner.connection.fetchval("SELECT coalesce(max(n), 0) FROM flux.mutations")
        states.append((last, await owner.state(TABLES)))
    assert done > 15
    log = await owner.log()
    assert len({mutation["n"] for mutation in log}) == len(log)
    for (first, before), (last, after) in pairwise(states):
        part = [m for m in log if first < m["n"] <= last]
        assert backward(after, part) == before
        assert forward(before, part) == after
        assert by_key(after, part, "h", "id") == before["h"]


async def test_the_issues_two_cases(owner: Owner) -> None:
    """A function in SET rewrites a row updated before; a default's function updates its own table."""
    await owner.run(
        "CREATE TABLE h (id int PRIMARY KEY, v int)",
        "INSERT INTO h VALUES (1, 10), (2, 20)",
        "CREATE FUNCTION f(k int) RETURNS int LANGUAGE plpgsql AS $$"
        " BEGIN IF k = 2 THEN UPDATE h SET v = v + 1 WHERE id = 1; END IF; RETURN k * 100; END $$",
        "UPDATE h SET v = f(id)",
    )
    assert [(op, before, after) for _, op, before, after in (await owner.brief())[2:]] == [
        ("UPDATE", {"id": 1, "v": 10}, {"id": 1, "v": 100}),
        ("UPDATE", {"id": 1, "v": 100}, {"id": 1, "v": 101}),
        ("UPDATE", {"id": 2, "v": 20}, {"id": 2, "v": 200}),
    ]
    await owner.run(
        "CREATE TABLE d (id int PRIMARY KEY, v int)",
        "CREATE FUNCTION g() RETURNS int LANGUAGE plpgsql AS $$"
        " BEGIN UPDATE d SET v = coalesce(v, 0) + 1; RETURN 7; END $$",
        "ALTER TABLE d ALTER v SET DEFAULT g()",
        "INSERT INTO d (id) VALUES (1), (2)",
    )
    assert [(op, before, after) for _, op, before, after in await owner.brief("table_name = 'd'")] == [
        ("INSERT", None, {"id": 1, "v": 7}),
        ("UPDATE", {"id": 1, "v": 7}, {"id": 1, "v": 8}),
        ("INSERT", None, {"id": 2, "v": 7}),
    ]


async def test_more_rows_than_are_held_in_memory_are_put_in_order(owner: Owner) -> None:
    await owner.run(
        "CREATE TABLE h (id int PRIMARY KEY, v int)",
        "INSERT INTO h SELECT g, 0 FROM generate_series(1, 20100) g",
        "CREATE FUNCTION f(k int) RETURNS int LANGUAGE plpgsql AS $$"
        " BEGIN IF k = 20100 THEN UPDATE h SET v = v + 1 WHERE id < 5; END IF; RETURN k; END $$",
    )
    before = await owner.state(["h"])
    first = await owner.connection.fetchval("SELECT max(n) FROM flux.mutations")
    await owner.run("UPDATE h SET v = f(id)")
    log = await owner.log(f"n > {first}")
    assert len(log) == 20104
    assert backward(await owner.state(["h"]), log) == before


async def test_no_setting_of_a_functions_hides_what_it_wrote(owner: Owner) -> None:
    await owner.run(
        "CREATE TABLE h (id int PRIMARY KEY, v int)",
        "INSERT INTO h VALUES (1, 10), (2, 20)",
        "CREATE FUNCTION f(k int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN"
        " IF k = 2 THEN UPDATE h SET v = v + 1 WHERE id = 1; PERFORM set_config(name, '', true) FROM"
        " unnest(ARRAY['flux.said', 'flux.ctx', 'flux.day']) AS name; END IF;"
        " RETURN k * 100; END $$",
        "GRANT ALL ON h TO flux_app; SET ROLE flux_app",
        "UPDATE h SET v = f(id)",
        "RESET ROLE",
    )
    assert [after for _, _, _, after in (await owner.brief())[2:]] == [
        {"id": 1, "v": 100}, {"id": 1, "v": 101}, {"id": 2, "v": 200},
    ]  # fmt: skip
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await owner.run("SET ROLE flux_app", "SELECT setval('flux.said', 1)")
