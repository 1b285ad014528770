"""Each way that a capture could lie, fail the user's statement, or miss a row."""

from __future__ import annotations

import hashlib
import json

import asyncpg
import pytest

from tests.integration.data.capture.owner import REQUEST, Owner


async def test_copy_and_upsert_and_merge_are_captured(owner: Owner) -> None:
    await owner.run("CREATE TABLE t (id int PRIMARY KEY, v text)")
    await owner.connection.copy_records_to_table("t", records=[(1, "a"), (2, "b")])
    await owner.run(
        "INSERT INTO t VALUES (2, 'c'), (3, 'd') ON CONFLICT (id) DO UPDATE SET v = excluded.v",
        "MERGE INTO t USING (VALUES (1), (9)) s (id) ON t.id = s.id WHEN MATCHED THEN DELETE"
        " WHEN NOT MATCHED THEN INSERT VALUES (s.id, 'new')",
    )
    assert sorted((op, (after or before)["id"]) for _, op, before, after in await owner.brief()) == [
        ("DELETE", 1), ("INSERT", 1), ("INSERT", 2), ("INSERT", 3), ("INSERT", 9), ("UPDATE", 2),
    ]  # fmt: skip


async def test_a_column_with_the_name_of_an_alias_does_not_stand_for_the_row(owner: Owner) -> None:
    await owner.run(
        'CREATE TABLE t (r int PRIMARY KEY, "new" int, "old" int, i int,'
        " n int, was int, becomes int, flux_new int)",
        "INSERT INTO t VALUES (1, 2, 3, 4, 5, 6, 7, 8)",
        "UPDATE t SET n = 50",
    )
    first, second = await owner.brief()
    assert first[3] == {"r": 1, "new": 2, "old": 3, "i": 4, "n": 5, "was": 6, "becomes": 7, "flux_new": 8}
    assert second[2] == first[3]
    assert second[3] == {**first[3], "n": 50}


@pytest.mark.parametrize("per_row", [False, True])
async def test_a_nul_in_a_json_column_fails_nothing_and_is_kept(owner: Owner, per_row: bool) -> None:
    await owner.run("CREATE TABLE t (id int PRIMARY KEY, j json, v int)")
    if per_row:
        await owner.run(
            "CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
            "CREATE TRIGGER x AFTER UPDATE ON t FOR EACH ROW EXECUTE FUNCTION nothing()",
        )
    await owner.run(
        r"""INSERT INTO t VALUES (1, '{"a": "\u0000"}', 1), (2, '{"a": 1}', 2)""",
        "UPDATE t SET v = v + 1",
        "TRUNCATE t",
    )
    images = [after or before for _, _, before, after in await owner.brief()]
    assert images[0] == {"id": 1, "j": {"$text": r'{"a": "\u0000"}'}, "v": 1}
    assert images[1] == {"id": 2, "j": {"a": 1}, "v": 2}
    assert images[2] == {"id": 1, "j": {"$text": r'{"a": "\u0000"}'}, "v": 2}
    assert [op for _, op, _, _ in await owner.brief()] == ["INSERT"] * 2 + ["UPDATE"] * 2 + ["TRUNCATE"] * 2


async def test_a_cast_to_json_that_throws_fails_nothing(owner: Owner) -> None:
    await owner.run(
        "CREATE TYPE mood AS ENUM ('fine')",
        "CREATE FUNCTION mood_json(mood) RETURNS json LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$",
        "CREATE CAST (mood AS json) WITH FUNCTION mood_json(mood)",
        "CREATE DOMAIN positive AS int CHECK (VALUE > 0)",
        "CREATE TABLE t (id positive PRIMARY KEY, o mood, p point, r int4range, f float8)",
        "INSERT INTO t VALUES (1, 'fine', '(1,2)', '[1,3)', 'infinity')",
    )
    [(_, _, _, after)] = await owner.brief()
    assert after == {"id": 1, "o": {"$text": "fine"}, "p": "(1,2)", "r": "[1,3)", "f": "Infinity"}


async def test_images_do_not_depend_on_the_session(owner: Owner) -> None:
    await owner.run(
        "CREATE TABLE t (id int PRIMARY KEY, f float8, ts timestamptz, i interval, b bytea, n numeric,"
        " r tstzrange)",
        "INSERT INTO t VALUES (1, 0.1::float8 + 0.2, '2026-01-01 00:00Z', '1 day 2 hours', '\\xff', 1e30,"
        " '[2026-01-01 00:00Z,)')",
        "SET extra_float_digits = -10",
        "SET TimeZone = 'Asia/Tokyo'",
        "SET IntervalStyle = 'iso_8601'",
        "SET bytea_output = 'escape'",
        "SET DateStyle = 'German'",
        "UPDATE t SET id = 2",
    )
    rows = await owner.connection.fetch("SELECT before::text, after::text FROM flux.mutations ORDER BY n")
    inserted, updated = rows
    assert json.loads(inserted["after"]) == json.loads(updated["before"])
    assert '"f": 0.30000000000000004' in updated["after"]
    assert '"n": 1000000000000000000000000000000' in updated["after"]
    assert json.loads(updated["after"])["ts"] == "2026-01-01T00:00:00+00:00"
    assert await owner.connection.fetchval("SHOW TimeZone") == "Asia/Tokyo"


async def test_rows_are_captured_under_session_replication_role_replica(owner: Owner) -> None:
    await owner.run(
        "CREATE TABLE t (id int PRIMARY KEY)",
        "CREATE TABLE p (id int) PARTITION BY RANGE (id)",
        "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10)",
        "SET session_replication_role = replica",
        "INSERT INTO t VALUES (1)",
        "INSERT INTO p1 VALUES (1)",
        "TRUNCATE t",
    )
    assert [(table, op) for table, op, _, _ in await owner.brief()] == [
        ("t", "INSERT"), ("p", "INSERT"), ("t", "TRUNCATE"),
    ]  # fmt: skip


async def test_a_partition_attached_later_is_captured_and_makes_an_epoch(owner: Owner) -> None:
    await owner.run(
        "CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id)",
        "CREATE TABLE q (id int PRIMARY KEY)",
        "INSERT INTO q VALUES (5)",
        "ALTER TABLE p ATTACH PARTITION q FOR VALUES FROM (0) TO (10)",
        "INSERT INTO q VALUES (6)",
        "TRUNCATE q",
        "ALTER TABLE p DETACH PARTITION q",
        "INSERT INTO q VALUES (7)",
    )
    assert [(table, op) for table, op, _, _ in await owner.brief()] == [
        ("q", "INSERT"), ("p", "INSERT"), ("p", "TRUNCATE"), ("p", "TRUNCATE"), ("q", "INSERT"),
    ]  # fmt: skip
    assert ("p", "attached") in await owner.epochs()


async def test_what_fires_no_row_trigger_makes_an_epoch(owner: Owner) -> None:
    await owner.run(
        "CREATE TABLE t (id int PRIMARY KEY, v int)",
        "INSERT INTO t VALUES (1, 1)",
        "CREATE TABLE made AS SELECT * FROM t",
        "ALTER TABLE t ALTER v TYPE bigint USING v * 2",
        "ALTER TABLE t DROP v",
        "DROP TABLE made",
    )
    assert await owner.epochs() == [
        ("t", "created"), ("made", "create table as"), ("t", "rewrite"), ("t", "column dropped"),
        ("made", "dropped"),
    ]  # fmt: skip


async def test_temporary_tables_are_left_alone(owner: Owner) -> None:
    await owner.run("CREATE TEMP TABLE t (id int)", "INSERT INTO t VALUES (1)", "DROP TABLE t")
    assert await owner.brief() == []
    assert await owner.epochs() == []


async def test_virtual_generated_columns_are_left_out_and_stored_ones_are_there(owner: Owner) -> None:
    if owner.connection.get_server_version().major < 18:
        pytest.fail("needs PostgreSQL 18")
    await owner.run(
        "CREATE TABLE t (id int PRIMARY KEY, s int GENERATED ALWAYS AS (id * 2) STORED,"
        " v int GENERATED ALWAYS AS (id * 3) VIRTUAL)",
        "INSERT INTO t VALUES (1)",
    )
    assert await owner.brief() == [("t", "INSERT", None, {"id": 1, "s": 2})]


async def test_a_long_key_is_kept_by_its_md5(owner: Owner) -> None:
    key = "".join(hashlib.sha256(str(i).encode()).hexdigest() for i in range(36))
    await owner.run("CREATE TABLE t (k text PRIMARY KEY)")
    await owner.connection.execute("INSERT INTO t VALUES ($1)", key)
    [row] = await owner.log()
    assert list(row["key"]) == ["$md5"]
    assert row["after"] == {"k": key}


async def test_keys_follow_a_renamed_column_and_a_new_primary_key(owner: Owner) -> None:
    await owner.run(
        "CREATE TABLE t (a int, b int)",
        "INSERT INTO t VALUES (1, 2)",
        "ALTER TABLE t ADD PRIMARY KEY (b, a)",
        "INSERT INTO t VALUES (3, 4)",
        "ALTER TABLE t RENAME b TO c",
        "UPDATE t SET c = 40 WHERE a = 3",
        'ALTER TABLE t RENAME TO "T é"',
        'DELETE FROM "T é" WHERE a = 3',
    )
    log = await owner.log()
    assert [row["key"] for row in log] == [None, {"a": 3, "b": 4}, {"a": 3, "c": 4}, {"a": 3, "c": 40}]
    assert log[-1]["table_name"] == "T é"


async def test_a_missing_partition_is_made_on_the_fly(owner: Owner) -> None:
    day = await owner.connection.fetchval("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD')")
    await owner.run("CREATE TABLE t (id int PRIMARY KEY)", f"DROP TABLE flux.mutations_{day}")
    await owner.run("INSERT INTO t VALUES (1)", "INSERT INTO t VALUES (2)")
    assert len(await owner.brief()) == 2


async def test_an_outside_transaction_has_one_derived_id(owner: Owner) -> None:
    await owner.run("CREATE TABLE t (id int PRIMARY KEY)", "SET application_name = 'psql'")
    async with owner.connection.transaction():
        await owner.run("INSERT INTO t VALUES (1)", "DELETE FROM t")
    rows = await owner.log()
    system, database = await owner.connection.fetchrow(
        "SELECT system_identifier::text, current_database() FROM pg_control_system()"
    )
    expected = hashlib.md5(f"{system}/{database}/{rows[0]['xid']}".encode()).hexdigest()
    assert {row["request_id"] for row in rows} == {expected}
    assert {(row["origin"], row["application_name"], row["system_id"]) for row in rows} == {
        ("outside", "psql", int(system))
    }
    assert owner.messages == []


@pytest.mark.parametrize(
    "forged", ["x", REQUEST, f"{REQUEST}|2026-13-45", "zz" * 16 + "|2026-11-22", f"{REQUEST}|2999-01-01"]
)
async def test_a_malformed_context_counts_as_outside(owner: Owner, forged: str) -> None:
    await owner.run(
        "CREATE TABLE t (id int PRIMARY KEY)", f"SET flux.ctx = '{forged}'", "INSERT INTO t VALUES (1)"
    )
    [row] = await owner.log()
    assert row["origin"] == "outside"


async def test_a_garbled_tally_fails_nothing(owner: Owner) -> None:
    await owner.run("CREATE TABLE t (id int PRIMARY KEY)")
    await owner.context()
    await owner.run("SET flux.tally = '{,,'", "SET flux.rows = 'x'", "INSERT INTO t VALUES (1)")
    assert len(await owner.log()) == 1


@pytest.mark.parametrize("per_row", [False, True])
async def test_announcements_say_what_a_statement_did(owner: Owner, per_row: bool) -> None:
    await owner.run(
        "CREATE TABLE t (id int, v text)" + (" PARTITION BY RANGE (id)" if per_row else ""),
        *(["CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (1000)"] if per_row else []),
    )
    await owner.context()
    await owner.run(
        "INSERT INTO t SELECT g, 'v' FROM generate_series(1, 100) g", "DELETE FROM t WHERE id = 7"
    )
    log = await owner.log()
    *many, one = owner.messages
    assert {message["r"] for message in owner.messages} == {REQUEST}
    assert [row[0] for message in many for row in message["a"]] == [row["n"] for row in log[:32]]
    assert sum(message["cut"] for message in many) == 68
    assert min(message["lo"] for message in many) == log[0]["n"]
    assert max(message["hi"] for message in many) == log[99]["n"]
    assert (one["cut"], one["lo"], one["hi"]) == (0, log[100]["n"], log[100]["n"])
    [row] = one["a"]
    assert row[1:8] == [int(log[100]["xid"]), "public", "t", "DELETE", None, {"id": 7, "v": "v"}, None]
    assert one["snap"].count(":") == 2


async def test_announcements_are_capped_by_bytes(owner: Owner) -> None:
    await owner.run("CREATE TABLE t (id int PRIMARY KEY, v text)")
    await owner.context()
    await owner.run("INSERT INTO t SELECT g, repeat('x', 30000) FROM generate_series(1, 5) g")
    [message] = owner.messages
    assert (len(message["a"]), message["cut"]) == (2, 3)


@pytest.mark.parametrize("per_row", [False, True])
async def test_rows_written_one_by_one_in_one_statement_share_its_cap(owner: Owner, per_row: bool) -> None:
    await owner.run("CREATE TABLE t (id int PRIMARY KEY, v text)")
    if per_row:
        await owner.run(
            "CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
            "CREATE TRIGGER x AFTER UPDATE ON t FOR EACH ROW EXECUTE FUNCTION nothing()",
        )
    await owner.context()
    await owner.run("DO $$ BEGIN FOR i IN 1 .. 40 LOOP INSERT INTO t VALUES (i, 'v'); END LOOP; END $$")
    numbers = [row["n"] for row in await owner.log()]
    assert [row[0] for message in owner.messages for row in message["a"]] == numbers[:32]
    assert [message["cut"] for message in owner.messages] == [0] * 32 + [1] * 8
    assert [message["hi"] for message in owner.messages] == numbers
    assert all(message["lo"] <= message["hi"] for message in owner.messages)
    assert [message["lo"] for message in owner.messages[:32]] == numbers[:32]
    owner.messages.clear()
    await owner.run("INSERT INTO t VALUES (41, repeat('x', 65536))", "INSERT INTO t VALUES (42, 'v')")
    assert [(len(message["a"]), message["cut"]) for message in owner.messages] == [(0, 1), (1, 0)]


async def test_a_stronger_transactions_statement_takes_no_snapshot_for_its_announcement(owner: Owner) -> None:
    await owner.run("CREATE TABLE t (id int PRIMARY KEY)")
    await owner.context()
    await owner.run("BEGIN ISOLATION LEVEL REPEATABLE READ; INSERT INTO t VALUES (1); COMMIT")
    [message] = owner.messages
    assert (message["a"][0][7], "snap" in message) == ({"id": 1}, False)


async def test_rows_that_were_rolled_back_were_announced(owner: Owner) -> None:
    await owner.run("CREATE TABLE t (id int PRIMARY KEY)")
    await owner.context()
    await owner.run("BEGIN; INSERT INTO t VALUES (1); ROLLBACK")
    assert await owner.log() == []
    assert [row[4] for row in owner.messages[0]["a"]] == ["INSERT"]


async def test_more_rows_than_are_held_in_memory_are_captured_in_pairs(owner: Owner) -> None:
    await owner.run(
        "CREATE TABLE t (id int PRIMARY KEY, v int)",
        "INSERT INTO t SELECT g, g FROM generate_series(1, 20100) g",
    )
    await owner.run("UPDATE t SET v = v + 1", "TRUNCATE flux.epochs")
    pairs = await owner.connection.fetchrow(
        "SELECT count(*) AS n, count(DISTINCT n) AS numbers, bool_and(before -> 'id' = after -> 'id'"
        " AND (after ->> 'v')::int = (before ->> 'v')::int + 1) AS paired"
        " FROM flux.mutations WHERE op = 'UPDATE'"
    )
    assert tuple(pairs) == (20100, 20100, True)


async def test_a_function_of_flux_app_can_neither_read_nor_switch_off_the_log(owner: Owner) -> None:
    await owner.run("CREATE TABLE t (id int PRIMARY KEY)", "SET ROLE flux_app", "INSERT INTO t VALUES (1)")
    for sql in (
        "SELECT * FROM flux.mutations",
        "ALTER TABLE t DISABLE TRIGGER ALL",
        "SELECT flux.capture_table('t'::regclass)",
        "SET session_replication_role = replica",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await owner.run(sql)
    await owner.run("SELECT flux.left_nothing('')", "RESET ROLE")
    [row] = await owner.log()
    assert (row["actor"], row["origin"]) == ("flux_app", "outside")


async def test_a_column_whose_text_depends_on_settings_changes_how_its_table_is_captured(
    owner: Owner,
) -> None:
    """Tables of plain types have fewer settings made for them; another column's type ends that at once."""
    await owner.run(
        "CREATE TABLE t (id int PRIMARY KEY, at timestamptz, h float8)",
        "SET TimeZone = 'Asia/Tokyo'; SET extra_float_digits = 0; SET IntervalStyle = 'iso_8601'",
        "SET DateStyle = 'German'; SET bytea_output = 'escape'",
    )
    functions = (
        "SELECT DISTINCT tgfoid::regproc::text FROM pg_trigger"
        " WHERE tgrelid = 't'::regclass AND tgname <> '~flux_truncate'"
    )
    assert [row[0] for row in await owner.connection.fetch(functions)] == ["flux.capture_statement_plain"]
    await owner.run("INSERT INTO t VALUES (1, '2026-01-02 03:04:05+00', 0.1::float8 + 0.2::float8)")
    epochs = await owner.epochs()
    await owner.run(
        "ALTER TABLE t ADD COLUMN i interval, ADD COLUMN b bytea, ADD COLUMN r tstzrange",
        "UPDATE t SET i = '1 day 2 hours', b = '\\x00ff', r = '[2026-01-02 00:00:00+00,)'",
    )
    assert [row[0] for row in await owner.connection.fetch(functions)] == ["flux.capture_statement"]
    assert await owner.epochs() == epochs
    plain = {"id": 1, "at": "2026-01-02T03:04:05+00:00", "h": 0.30000000000000004}
    whole = plain | {"i": "1 day 02:00:00", "b": "\\x00ff", "r": '["2026-01-02 00:00:00+00",)'}
    log = await owner.log()
    assert [mutation["after"] for mutation in log] == [plain, whole]


async def test_each_context_day_finds_its_partition(owner: Owner) -> None:
    """The session remembers the last day that was found sound; another one is looked at anew."""
    await owner.run("CREATE TABLE t (id int PRIMARY KEY)")
    days = await owner.connection.fetchrow(
        "SELECT to_char(d, 'YYYY-MM-DD'), to_char(d - 20, 'YYYY-MM-DD'), to_char(d - 4000, 'YYYY-MM-DD')"
        " FROM (SELECT (now() AT TIME ZONE 'UTC')::date AS d) AS today"
    )
    for number, context in enumerate(
        (
            f"{REQUEST}|{days[0]}",
            f"{REQUEST}|{days[1]}",
            f"{REQUEST}|{days[2]}",
            f"x{REQUEST[1:]}|{days[0]}",
            "x",
        )
    ):
        await owner.run(f"SET flux.ctx = '{context}'", f"INSERT INTO t VALUES ({number}), ({number + 100})")
        await owner.run(f"UPDATE t SET id = id + 1000 WHERE id = {number}")
    kept = [(str(row["day"]), row["origin"]) for row in await owner.log()]
    assert kept == [(days[0], "flux")] * 3 + [(days[1], "flux")] * 3 + [(days[0], "outside")] * 9
