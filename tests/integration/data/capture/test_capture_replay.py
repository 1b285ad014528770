"""The log is true: played backward from the end it gives the beginning, forward the end."""

from __future__ import annotations

import random
from collections.abc import Callable

import asyncpg
import pytest

from tests.integration.data.capture.owner import Owner, backward, forward

SCHEMA = """
CREATE TABLE plain (id int PRIMARY KEY, a text, b numeric, at timestamptz DEFAULT now());
CREATE TABLE loose (a int, b text);
CREATE TABLE pair (x int, y text, v float8, PRIMARY KEY (x, y));
CREATE TABLE parent (id int PRIMARY KEY, v int);
CREATE TABLE child (id serial PRIMARY KEY, parent int REFERENCES parent ON UPDATE CASCADE ON DELETE CASCADE,
                    v int);
CREATE TABLE tree (id int PRIMARY KEY, up int REFERENCES tree ON UPDATE CASCADE ON DELETE SET NULL
                   DEFERRABLE INITIALLY DEFERRED, v int);
CREATE TABLE part (id int, d int, v text, PRIMARY KEY (id, d)) PARTITION BY RANGE (d);
CREATE TABLE part_low PARTITION OF part FOR VALUES FROM (0) TO (10);
CREATE TABLE part_high PARTITION OF part FOR VALUES FROM (10) TO (100) PARTITION BY LIST (id);
CREATE TABLE part_high_all PARTITION OF part_high DEFAULT;
CREATE TABLE counted (id int PRIMARY KEY, v int, touched int NOT NULL DEFAULT 0);
CREATE TABLE totals (k text PRIMARY KEY, n bigint);
CREATE TABLE replaced (id int PRIMARY KEY, v int);
CREATE TABLE latest (id int PRIMARY KEY, thread int, is_last boolean);

CREATE FUNCTION count_up() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO totals VALUES (TG_OP, 1) ON CONFLICT (k) DO UPDATE SET n = totals.n + 1;
    IF TG_OP = 'UPDATE' AND pg_trigger_depth() < 3 THEN
        UPDATE counted SET touched = touched + 1 WHERE id BETWEEN NEW.id AND NEW.id + 2;
    ELSIF TG_OP = 'DELETE' AND OLD.v % 5 = 0 AND pg_trigger_depth() < 2 THEN
        INSERT INTO counted VALUES (OLD.id, OLD.v + 1) ON CONFLICT DO NOTHING;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER count_up AFTER INSERT OR UPDATE OR DELETE ON counted FOR EACH ROW EXECUTE FUNCTION count_up();

CREATE FUNCTION replace_row() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM replaced WHERE id = NEW.id;
    RETURN NEW;
END $$;
CREATE TRIGGER replace_row BEFORE INSERT ON replaced FOR EACH ROW EXECUTE FUNCTION replace_row();

CREATE FUNCTION only_last() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE latest SET is_last = false WHERE thread = NEW.thread AND is_last;
    RETURN NEW;
END $$;
CREATE TRIGGER only_last BEFORE INSERT ON latest FOR EACH ROW EXECUTE FUNCTION only_last();
"""
TABLES = [
    "plain", "loose", "pair", "parent", "child", "tree", "part", "counted", "totals", "replaced", "latest",
]  # fmt: skip


def workload(r: random.Random) -> str:
    """One random statement; some fail, and then leave nothing."""
    i, j, v = r.randint(1, 20), r.randint(1, 20), r.randint(0, 9)
    lo, hi = sorted((i, j))
    made: list[Callable[[], str]] = [
        lambda: (
            f"INSERT INTO plain SELECT g, 'x' || g, g / 7.0 FROM generate_series({lo}, {hi}) g"
            f" ON CONFLICT (id) DO UPDATE SET a = excluded.a || {v}, b = NULL"
        ),
        lambda: f"UPDATE plain SET a = 'y{v}', at = now() WHERE id % 3 = {v % 3}",
        lambda: f"UPDATE plain SET id = id + {v * 100} WHERE id BETWEEN {lo} AND {hi}",
        lambda: f"DELETE FROM plain WHERE id BETWEEN {lo} AND {lo + v}",
        lambda: (
            f"WITH gone AS (DELETE FROM plain WHERE id < {i} RETURNING *) "
            f"INSERT INTO plain SELECT id, a || 'again', b FROM gone"
        ),
        lambda: f"INSERT INTO loose VALUES ({i}, 'v{v}'), ({i}, 'v{v}')",
        lambda: f"UPDATE loose SET a = a + 1 WHERE a < {i}",
        lambda: f"DELETE FROM loose WHERE a = {i}",
        lambda: f"INSERT INTO pair VALUES ({i}, 'k{v}', {v}.1 / 3) ON CONFLICT DO NOTHING",
        lambda: f"UPDATE pair SET y = y || '{v}', v = v / 3 WHERE x = {i}",
        lambda: (
            f"MERGE INTO pair p USING (SELECT g AS x, 'k{v}' AS y FROM generate_series({lo}, {hi}) g) s"
            f" ON p.x = s.x AND p.y = s.y WHEN MATCHED AND p.x % 2 = 0 THEN DELETE"
            f" WHEN MATCHED THEN UPDATE SET v = {v} WHEN NOT MATCHED THEN INSERT VALUES (s.x, s.y, {v})"
        ),
        lambda: f"INSERT INTO parent VALUES ({i}, {v}) ON CONFLICT DO NOTHING",
        lambda: f"INSERT INTO child (parent, v) SELECT id, {v} FROM parent WHERE id < {i}",
        lambda: f"UPDATE parent SET id = id + 100 WHERE id BETWEEN {lo} AND {hi}",
        lambda: f"DELETE FROM parent WHERE id % 4 = {v % 4}",
        lambda: f"INSERT INTO tree SELECT {i}, (SELECT max(id) FROM tree), {v} ON CONFLICT DO NOTHING",
        lambda: f"UPDATE tree SET id = id + 1000, v = {v}",
        lambda: f"DELETE FROM tree WHERE id % 3 = {v % 3}",
        lambda: f"INSERT INTO part VALUES ({i}, {j}, 'p{v}') ON CONFLICT DO NOTHING",
        lambda: f"UPDATE part SET d = {j} WHERE id = {i}",
        lambda: f"UPDATE part_low SET v = v || '{v}'",
        lambda: f"INSERT INTO part_high_all VALUES ({i}, {10 + v}, 'direct') ON CONFLICT DO NOTHING",
        lambda: f"DELETE FROM part WHERE d < {v}",
        lambda: (
            f"INSERT INTO counted SELECT g, {v} FROM generate_series({lo}, {hi}) g ON CONFLICT DO NOTHING"
        ),
        lambda: f"UPDATE counted SET v = {v} WHERE id BETWEEN {lo} AND {hi}",
        lambda: f"DELETE FROM counted WHERE id BETWEEN {lo} AND {hi}",
        lambda: f"INSERT INTO replaced VALUES ({i}, {v}), ({j}, {v + 1}), ({i}, {v + 2})",
        lambda: (
            f"INSERT INTO latest SELECT coalesce(max(id), 0) + g, {v % 3}, true FROM latest, "
            f"generate_series(1, {1 + v}) g GROUP BY g"
        ),
        lambda: f"TRUNCATE {r.choice(['plain', 'loose', 'part', 'part_low', 'totals', 'parent CASCADE'])}",
        lambda: (
            f"DO $$ BEGIN UPDATE plain SET a = 'inner{v}'; "
            f"BEGIN DELETE FROM plain; RAISE EXCEPTION 'undo'; EXCEPTION WHEN others THEN NULL; END; "
            f"UPDATE counted SET v = v + 1 WHERE id = {i}; END $$"
        ),
    ]
    return r.choice(made)()


@pytest.mark.parametrize("seed", range(6))
async def test_a_random_history_played_backward_gives_the_beginning_and_forward_the_end(
    owner: Owner, seed: int
) -> None:
    r = random.Random(seed)
    await owner.run(SCHEMA)
    if seed % 2:
        await owner.context()
    initial = await owner.state(TABLES)
    done = 0
    for _ in range(60):
        transaction = owner.connection.transaction()
        await transaction.start()
        try:
            for _ in range(r.randint(1, 4)):
                await owner.connection.execute(workload(r))
            if r.random() < 0.15:
                await transaction.rollback()
            else:
                await transaction.commit()
                done += 1
        except (
            asyncpg.UniqueViolationError,
            asyncpg.ForeignKeyViolationError,
            asyncpg.CheckViolationError,
            asyncpg.CardinalityViolationError,
            asyncpg.TriggeredDataChangeViolationError,
        ):
            if owner.connection.is_in_transaction():
                await transaction.rollback()
    assert done > 20
    final = await owner.state(TABLES)
    log = await owner.log()
    assert len({mutation["n"] for mutation in log}) == len(log)
    assert backward(final, log) == initial
    assert forward(initial, log) == final
