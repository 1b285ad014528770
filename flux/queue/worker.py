"""The job worker: claims due jobs under a lease, runs them, says what came of them. One per serving process.

A job runs at least once: an attempt whose worker dies, or can't tell Postgres of it before its lease runs
out, is followed by another. Claims and acknowledgements go in batches: a short job costs little.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable

from flux.errors import Overloaded, SpoolError
from flux.host.jobs import OUTAGE
from flux.queue.backoff import Backoff
from flux.queue.job import Job, JobResult
from flux.queue.job_table import Acknowledgement, JobTable
from flux.queue.listener import Listener
from flux.store.database import Store

log = logging.getLogger("flux.queue")

Execute = Callable[[Job], Awaitable[JobResult]]

AHEAD = 0.25
"""Seconds of work to hold claimed beyond what runs: hides a claim's round trip, keeps few from others."""
LINGER = 0.005
"""Seconds for which acknowledgements gather before they are sent."""
GIVEN_BACK = 1.0
"""Seconds until a job is tried again that this process had no room for."""
LAST_WORDS = 5.0
"""Seconds that a stopping worker goes on trying to acknowledge while Postgres is away."""


class Worker:
    """Runs jobs.

    Args:
        store: whose database holds flux.jobs.
        execute: runs one attempt, recorded; what it raises counts as a failed attempt, except SpoolError and
            Overloaded: then the attempt doesn't count.
        concurrency: attempts at once.
        node: this process's id; jobs it holds bear it.
        lease: seconds after which a job of a silent worker is taken over; one of a node that is known to have
            ended is at the next look.
        poll: seconds between looks at the table where no NOTIFY comes.
        batch: most jobs held claimed beyond those that run.
        backoff: the wait between attempts.
    """

    def __init__(
        self,
        store: Store,
        execute: Execute,
        concurrency: int,
        node: str,
        *,
        lease: float = 30.0,
        poll: float = 0.2,
        batch: int = 100,
        backoff: Backoff | None = None,
    ) -> None:
        self._table = JobTable(store, node, lease)
        self._execute = execute
        self._concurrency = concurrency
        self._lease = lease
        self._poll = poll
        self._batch = batch
        self._backoff = backoff or Backoff()
        self._wake = asyncio.Event()
        self._listener = Listener(store, self._wake)
        self._held: dict[tuple[str, int], Job] = {}
        self._held_until: dict[tuple[str, int], float] = {}
        self._waiting: deque[Job] = deque()
        self._running = 0
        self._ran = 0
        self._ahead = 0
        self._counting_since = 0.0
        self._said: list[Acknowledgement] = []
        self._speak = asyncio.Event()
        self._idle = asyncio.Event()
        self._claiming = asyncio.Lock()

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set; then take no more, give back what has not begun and end with the rest.

        If cancelled, attempts under way are cancelled too and their jobs tried again after their lease.
        """
        async with asyncio.TaskGroup() as group:
            speaker = group.create_task(self._acknowledge())
            helpers = [
                group.create_task(self._wake_on(stop)),
                group.create_task(self._listener.run()),
                group.create_task(self._keep()),
            ]
            await self._claim(group, stop)
            while self._waiting:
                self._say(Acknowledgement(self._waiting.popleft(), "queued", given_back=True))
            while self._running:
                self._idle.clear()
                await self._idle.wait()
            self._speak.set()
            try:
                async with asyncio.timeout(LAST_WORDS):
                    while self._held:
                        self._idle.clear()
                        await self._idle.wait()
            except TimeoutError:
                log.warning("%d jobs end unacknowledged; they will be tried again", len(self._held))
            for task in (speaker, *helpers):
                task.cancel()

    async def _claim(self, group: asyncio.TaskGroup, stop: asyncio.Event) -> None:
        clock = asyncio.get_running_loop().time
        self._counting_since = clock()
        pause = self._poll
        while not stop.is_set():
            self._wake.clear()
            room = self._concurrency + self._ahead - self._running - len(self._waiting)
            began = clock()
            try:
                jobs = await self._take(room) if room > 0 and self._low() else []
            except OUTAGE as error:
                log.warning("can't claim jobs: %s", error)
                await _wait(stop, pause)
                pause = min(pause * 2, 2.0)
                continue
            pause = self._poll
            self._look_ahead(began)
            self._waiting.extend(jobs)
            if stop.is_set():
                return
            self._start(group)
            if room <= 0 or len(jobs) < room or not self._low():
                await _wait(self._wake, self._poll)

    async def _take(self, most: int) -> list[Job]:
        """Claim up to `most` jobs; they are held from here on."""
        async with self._claiming:
            until = asyncio.get_running_loop().time() + self._lease
            jobs = await self._table.claim(most)
            for job in jobs:
                self._held[job.id, job.attempt] = job
                self._held_until[job.id, job.attempt] = until
        return jobs

    def _low(self) -> bool:
        """Whether it is time to claim: free hands, or less than half of what is kept ahead."""
        return len(self._waiting) <= self._ahead // 2

    def _look_ahead(self, now: float) -> None:
        """Keep as much ahead as lately ran in AHEAD seconds: none of long jobs: idle workers get them."""
        elapsed = now - self._counting_since
        if elapsed >= AHEAD:
            self._ahead = min(self._batch, int(self._ran / elapsed * AHEAD))
            self._ran, self._counting_since = 0, now

    def _start(self, group: asyncio.TaskGroup) -> None:
        now = asyncio.get_running_loop().time()
        while self._waiting and self._running < self._concurrency:
            job = self._waiting.popleft()
            if now >= self._held_until[job.id, job.attempt]:
                self._drop(job)
                continue
            self._running += 1
            group.create_task(self._run(group, job))

    async def _run(self, group: asyncio.TaskGroup, job: Job) -> None:
        try:
            self._say(self._judge(job, await self._execute(job)))
        except (SpoolError, Overloaded) as error:
            self._say(
                Acknowledgement(job, "queued", GIVEN_BACK, given_back=True, error=_error(error.type, error))
            )
        except Exception as error:
            log.exception("job %s (%s) failed outside its function", job.id, job.name)
            self._say(self._judge(job, JobResult(False, None, _error(type(error).__name__, error))))
        finally:
            self._running -= 1
            self._idle.set()
        self._ran += 1
        self._start(group)
        if self._low():
            self._wake.set()

    def _judge(self, job: Job, result: JobResult) -> Acknowledgement:
        if result.ok:
            return Acknowledgement(job, "done", request_id=result.request_id)
        if job.attempt >= job.max_attempts:
            return Acknowledgement(job, "failed", request_id=result.request_id, error=result.error)
        delay = self._backoff.delay(job.attempt)
        return Acknowledgement(job, "queued", delay, request_id=result.request_id, error=result.error)

    def _say(self, acknowledgement: Acknowledgement) -> None:
        self._said.append(acknowledgement)
        self._speak.set()

    async def _acknowledge(self) -> None:
        """Send what there is to say; while that is on its way, more gathers."""
        while True:
            await self._speak.wait()
            await asyncio.sleep(LINGER)
            self._speak.clear()
            said, self._said = self._said, []
            try:
                if said:
                    await self._table.acknowledge(said)
            except OUTAGE as error:
                log.warning("can't acknowledge %d jobs: %s", len(said), error)
                self._said = said + self._said
                self._speak.set()
                await asyncio.sleep(self._poll)
                continue
            for acknowledgement in said:
                self._drop(acknowledgement.job)
            self._idle.set()

    def _drop(self, job: Job) -> None:
        self._held.pop((job.id, job.attempt), None)
        self._held_until.pop((job.id, job.attempt), None)

    async def _keep(self) -> None:
        """Renew what this worker holds; let go of what it has claimed and never heard of; take back what
        others have let go.
        """
        clock = asyncio.get_running_loop().time
        while True:
            began = clock()
            try:
                if self._held:
                    for key in await self._table.renew(list(self._held.values())):
                        if key in self._held_until:
                            self._held_until[key] = began + self._lease
                async with self._claiming:
                    unheard = await self._table.give_back(self._held.values())
                queued, failed = await self._table.reclaim()
            except OUTAGE as error:
                log.warning("can't renew leases: %s", error)
            else:
                if unheard:
                    log.warning(
                        "gave %d jobs back that were claimed while Postgres' answers were lost", unheard
                    )
                    self._wake.set()
                if queued or failed:
                    log.warning(
                        "took %d jobs back from a silent worker; %d more were out of attempts", queued, failed
                    )
                    self._wake.set()
            await asyncio.sleep(self._lease / 5)

    async def _wake_on(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._wake.set()


def _error(kind: str, error: Exception) -> dict[str, str]:
    return {"type": kind, "message": str(error)}


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
