# SQLite in memory, whose clock and random numbers are its own.
import sqlite3


async def handler(input, ctx):
    db = sqlite3.connect(":memory:")
    db.execute("create table t (id integer primary key, at text default current_timestamp, day default current_date, r default (random()))")
    out = [db.execute("select random(), hex(randomblob(5)), datetime('now'), date('now', '+1 day'), time(), julianday('now'), strftime('%s %f', 'now'), current_timestamp, current_date, current_time").fetchone()]
    await ctx.sleep(1500 if input["n"] % 4 == 0 else 1)
    db.executemany("insert into t (id) values (?)", [(i,) for i in range(5)])
    out += db.execute("select id, at, day, r from t order by random()").fetchall()
    out.append(db.execute("select datetime('2026-01-31', '+1 month'), date(0, 'unixepoch'), strftime('%Y', '2001-01-01'), strftime('%H:%M', 'now', 'start of day'), datetime('bogus')").fetchone())
    return out
