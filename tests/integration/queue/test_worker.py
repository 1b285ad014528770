"""Workers over a real queue: every job runs, once if nothing breaks, at least once if something does."""

from __future__ import annotations

import asyncio
from collections import Counter

import asyncpg
import orjson
import pytest

from flux.errors import Overloaded, SpoolFull
from flux.queue.backoff import Backoff
from flux.queue.job import Job, JobResult
from flux.queue.job_table import Acknowledgement, JobTable
from flux.queue.worker import Worker
from tests.integration.queue.local_queue import AT_ONCE, OK, Queue, until


async def test_a_pushed_job_is_run_with_what_was_pushed(queue: Queue) -> None:
    ran: list[Job] = []

    async def execute(job: Job) -> JobResult:
        ran.append(job)
        return OK

    async with queue.worker(execute):
        pushed = await queue.push("welcome", {"b": 1, "a": "\0"})
        (row,) = await queue.ended(pushed)
    (job,) = ran
    assert (job.id, job.name, job.payload) == (pushed, "welcome", b'{"b":1,"a":"\\u0000"}')
    assert (job.attempt, job.max_attempts, job.created_at) == (1, 5, row["created_at"])
    assert (row["status"], row["attempt"], row["last_request_id"]) == ("done", 1, "e" * 32)
    assert (row["locked_by"], row["lease_until"], row["last_error"]) == (None, None, None)
    assert row["started_at"] <= row["finished_at"]


async def test_a_notification_wakes_a_worker_that_hardly_polls(queue: Queue) -> None:
    async def execute(job: Job) -> JobResult:
        return OK

    async with queue.worker(execute, poll=60.0):
        await queue.ended(await queue.push("one"))
        await queue.ended(await queue.push("two"))


async def test_polling_finds_what_nobody_notified(queue: Queue) -> None:
    async def execute(job: Job) -> JobResult:
        return OK

    async with queue.worker(execute, poll=0.05):
        await queue.execute("SELECT flux.push_job('silent', 'null')")
        (row,) = await queue.ended()
    assert row["status"] == "done"


async def test_a_failing_job_is_tried_again_until_its_attempts_are_used(queue: Queue) -> None:
    attempts: list[int] = []

    async def execute(job: Job) -> JobResult:
        attempts.append(job.attempt)
        return JobResult(False, f"{job.attempt:032x}", {"type": "ValueError", "message": "bad\0\ud800"})

    async with queue.worker(execute):
        (row,) = await queue.ended(await queue.push("flaky", max_attempts=3))
    assert attempts == [1, 2, 3]
    assert (row["status"], row["attempt"], row["last_request_id"]) == ("failed", 3, f"{3:032x}")
    assert orjson.loads(row["last_error"]) == {"type": "ValueError", "message": "bad\ufffd?"}


async def test_a_job_that_works_at_last_is_done_and_its_error_gone(queue: Queue) -> None:
    async def execute(job: Job) -> JobResult:
        return OK if job.attempt == 2 else JobResult(False, None, {"type": "E", "message": ""})

    async with queue.worker(execute):
        (row,) = await queue.ended(await queue.push("flaky"))
    assert (row["status"], row["attempt"], row["last_error"]) == ("done", 2, None)


async def test_the_wait_before_the_next_attempt_grows(queue: Queue) -> None:
    async def execute(job: Job) -> JobResult:
        return JobResult(False, None, {"type": "E", "message": ""})

    backoff = Backoff(first=100.0, factor=10.0, longest=5000.0, random=lambda: 1.0)
    job = await queue.push("slow")
    waits: list[float] = []
    async with queue.worker(execute, backoff=backoff, poll=0.02):
        for attempt in (1, 2, 3):

            async def tried(attempt: int = attempt) -> float | None:
                row = await queue.row(job)
                if row["attempt"] != attempt or row["status"] != "queued":
                    return None
                return float((row["run_at"] - row["started_at"]).total_seconds())

            waits.append(await until(tried))
            await queue.execute("UPDATE flux.jobs SET run_at = now()")
    assert [round(wait / 100) for wait in waits] == [1, 10, 50]


async def test_what_execute_raises_is_a_failed_attempt(
    queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    async def execute(job: Job) -> JobResult:
        raise KeyError("lost")

    async with queue.worker(execute):
        (row,) = await queue.ended(await queue.push("broken", max_attempts=2))
    assert (row["status"], row["attempt"]) == ("failed", 2)
    assert orjson.loads(row["last_error"]) == {"type": "KeyError", "message": "'lost'"}


@pytest.mark.parametrize("error", [SpoolFull("no room"), Overloaded("no room")])
async def test_an_attempt_that_could_not_begin_does_not_count(queue: Queue, error: Exception) -> None:
    async def execute(job: Job) -> JobResult:
        raise error

    job = await queue.push("later", max_attempts=1)
    async with queue.worker(execute):

        async def given_back() -> object:
            row = await queue.row(job)
            return row if row["last_error"] and row["status"] == "queued" else None

        row = await until(given_back)
    assert row["attempt"] == 0
    assert row["run_at"] > row["started_at"]


async def test_an_idempotency_key_makes_one_job_of_two_pushes(queue: Queue) -> None:
    ran: list[str] = []

    async def execute(job: Job) -> JobResult:
        ran.append(job.name)
        return OK

    async with queue.worker(execute):
        ids = await asyncio.gather(*(queue.push("once", idempotency_key="k") for _ in range(5)))
        other = await queue.push("other", idempotency_key="k")
        await queue.ended()
        assert await queue.push("once", idempotency_key="k") == ids[0]
    assert len(set(ids)) == 1
    assert other not in ids
    assert sorted(ran) == ["once", "other"]


async def test_a_delayed_job_waits(queue: Queue) -> None:
    async def execute(job: Job) -> JobResult:
        return OK

    async with queue.worker(execute, poll=0.02):
        (row,) = await queue.ended(await queue.push("later", delay=300))
    assert (row["started_at"] - row["created_at"]).total_seconds() >= 0.3


async def test_jobs_run_in_the_order_in_which_they_were_pushed(queue: Queue) -> None:
    ran: list[str] = []

    async def execute(job: Job) -> JobResult:
        ran.append(job.name)
        return OK

    await queue.execute("SELECT flux.push_job('job ' || n, 'null') FROM generate_series(1, 30) n")
    async with queue.worker(execute, concurrency=1):
        await queue.ended()
    assert ran == [f"job {n}" for n in range(1, 31)]


async def test_as_many_run_at_once_as_allowed_and_no_more(queue: Queue) -> None:
    running = most = 0
    full = asyncio.Event()

    async def execute(job: Job) -> JobResult:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == 3:
            full.set()
        await full.wait()
        await asyncio.sleep(0)
        running -= 1
        return OK

    for n in range(30):
        await queue.push(f"job {n}")
    async with queue.worker(execute, concurrency=3):
        await queue.ended()
    assert most == 3


async def test_two_workers_run_each_job_once(queue: Queue) -> None:
    ran: Counter[str] = Counter()

    async def execute(job: Job) -> JobResult:
        ran[job.id] += 1
        await asyncio.sleep(0)
        return OK

    await queue.execute("SELECT flux.push_job('j', 'null') FROM generate_series(1, 300)")
    async with queue.worker(execute, node="one"), queue.worker(execute, node="two"):
        rows = await queue.ended()
    assert len(rows) == 300
    assert set(ran.values()) == {1}
    assert len(ran) == 300


async def test_a_job_of_a_dead_worker_is_taken_over_and_the_lost_attempt_counts(queue: Queue) -> None:
    await queue.push("orphan")
    (lost,) = await JobTable(queue.store, "dead", lease=0.05).claim(10)
    attempts: list[int] = []

    async def execute(job: Job) -> JobResult:
        attempts.append(job.attempt)
        return OK

    async with queue.worker(execute, lease=0.5):
        (row,) = await queue.ended(lost.id)
    assert attempts == [2]
    assert (row["status"], row["attempt"]) == ("done", 2)


async def test_a_job_of_a_node_that_is_known_to_have_ended_is_taken_over_before_its_lease_runs_out(
    queue: Queue,
) -> None:
    await queue.push("orphan")
    (lost,) = await JobTable(queue.store, "dead", lease=3600).claim(10)
    await queue.execute(
        "INSERT INTO flux.nodes (id, host, pid, version, started_at, heartbeat_at, stopped_at) "
        "VALUES ('dead', 'h', 1, '0', now(), now(), now()), ('alive', 'h', 2, '0', now(), now(), NULL)"
    )
    await queue.push("held")
    (held,) = await JobTable(queue.store, "alive", lease=3600).claim(10)

    async def execute(job: Job) -> JobResult:
        return OK

    async with queue.worker(execute):
        (row,) = await queue.ended(lost.id)
    assert (row["status"], row["attempt"]) == ("done", 2)
    assert (await queue.row(held.id))["locked_by"] == "alive"


async def test_what_a_worker_claimed_without_hearing_of_it_runs_soon_and_the_attempt_does_not_count(
    queue: Queue,
) -> None:
    lost, running = await queue.push("lost"), await queue.push("running")
    finish = asyncio.Event()
    ran: list[tuple[str, int]] = []

    async def execute(job: Job) -> JobResult:
        ran.append((job.name, job.attempt))
        if job.name == "running":
            await finish.wait()
        return OK

    await queue.execute("UPDATE flux.jobs SET run_at = now() + interval '1 hour' WHERE id = $1", running)
    (claimed,) = await JobTable(queue.store, "here", 3600.0).claim(5)
    assert claimed.id == lost
    await queue.execute("UPDATE flux.jobs SET run_at = now() WHERE id = $1", running)
    async with queue.worker(execute, lease=1.0):
        (row,) = await queue.ended(lost)
        finish.set()
        (other,) = await queue.ended(running)
    assert sorted(ran) == [("lost", 1), ("running", 1)]
    assert [(r["status"], r["attempt"], r["last_error"]) for r in (row, other)] == [("done", 1, None)] * 2


async def test_a_job_that_takes_its_worker_down_every_time_fails_in_the_end(queue: Queue) -> None:
    await queue.push("deadly", max_attempts=1)
    (lost,) = await JobTable(queue.store, "dead", lease=0.0).claim(10)

    async def execute(job: Job) -> JobResult:
        raise AssertionError("it has no attempts left")

    async with queue.worker(execute, lease=0.5):
        (row,) = await queue.ended(lost.id)
    assert (row["status"], row["attempt"]) == ("failed", 1)
    assert orjson.loads(row["last_error"])["type"] == "WorkerLost"


async def test_what_a_late_worker_says_of_an_attempt_that_was_taken_over_changes_nothing(
    queue: Queue,
) -> None:
    await queue.push("twice")
    late = JobTable(queue.store, "late", lease=0.0)
    (first,) = await late.claim(1)
    assert await late.reclaim() == (1, 0)
    (second,) = await JobTable(queue.store, "next", lease=60).claim(1)
    assert (first.attempt, second.attempt) == (1, 2)
    await late.acknowledge([Acknowledgement(first, "done")])
    assert await late.renew([first]) == set()
    row = await queue.row(first.id)
    assert (row["status"], row["locked_by"], row["attempt"]) == ("running", "next", 2)


async def test_a_long_job_keeps_its_lease(queue: Queue) -> None:
    finish = asyncio.Event()
    attempts: list[int] = []

    async def execute(job: Job) -> JobResult:
        attempts.append(job.attempt)
        await finish.wait()
        return OK

    job = await queue.push("long")
    async with queue.worker(execute, node="one", lease=0.4), queue.worker(execute, node="two", lease=0.4):

        async def outlived() -> object:
            row = await queue.row(job)
            held = row["started_at"] and (row["lease_until"] - row["started_at"]).total_seconds()
            return row if held and held > 1.2 else None

        await until(outlived)
        finish.set()
        (row,) = await queue.ended(job)
    assert attempts == [1]
    assert row["attempt"] == 1


async def test_stopping_finishes_what_runs_and_gives_back_what_waits(queue: Queue) -> None:
    begun, finish = asyncio.Event(), asyncio.Event()

    async def execute(job: Job) -> JobResult:
        begun.set()
        await finish.wait()
        return OK

    stop = asyncio.Event()
    worker = Worker(queue.store, execute, 1, "here", backoff=AT_ONCE)
    worker._ahead = 10
    for n in range(5):
        await queue.push(f"job {n}")
    task = asyncio.create_task(worker.run(stop))
    await begun.wait()
    stop.set()
    finish.set()
    async with asyncio.timeout(10):
        await task
    rows = await queue.rows()
    assert rows[0]["status"] == "done"
    assert {row["status"] for row in rows[1:]} <= {"queued", "done"}
    assert {row["attempt"] for row in rows if row["status"] == "queued"} <= {0}
    assert all(row["locked_by"] is None for row in rows)


async def test_a_worker_outlives_a_postgres_that_goes_away(queue: Queue, postgres_url: str) -> None:
    begun, finish = asyncio.Event(), asyncio.Event()
    attempts: Counter[str] = Counter()

    async def execute(job: Job) -> JobResult:
        attempts[job.name] += 1
        if job.name == "during":
            begun.set()
            await finish.wait()
        return OK

    during = await queue.push("during")
    admin = await asyncpg.connect(postgres_url)
    try:
        async with queue.worker(execute, poll=0.05, lease=5.0):
            await begun.wait()
            async with queue.store.internal() as connection:
                database = await connection.fetchval("SELECT quote_ident(current_database())")
            await admin.execute(f"ALTER DATABASE {database} ALLOW_CONNECTIONS false")
            await admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE quote_ident(datname) = $1",
                database,
            )
            finish.set()
            while queue.store.records.get_idle_size():
                await asyncio.sleep(0.01)
            await admin.execute(f"ALTER DATABASE {database} ALLOW_CONNECTIONS true")
            after = await queue.push("after")
            rows = await queue.ended(during, after)
    finally:
        await admin.close()
    assert [(row["status"], row["attempt"]) for row in rows] == [("done", 1), ("done", 1)]
    assert attempts == {"during": 1, "after": 1}
