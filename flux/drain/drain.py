"""The drain: brings spools into Postgres.

The server's child process runs one; so does a CLI command, for what a crash left. It drains its
server's spool while that is written, and adopts every spool on this disk whose writer is gone
(whose lock is free), those first.

It looks for new records every 20 ms (5 ms if answers wait for Postgres). So a record is readable
well within half a second. An idle look costs some tens of microseconds.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import asyncpg
from opentelemetry.instrumentation.utils import suppress_instrumentation

from flux.drain.batch import Batches, Q
from flux.drain.drained import DrainedSpool, Moved
from flux.drain.state import DrainState
from flux.errors import SpoolError
from flux.spool import folder as folders
from flux.spool import positions as otlp
from flux.spool.frames import DRAINED
from flux.spool.reader import SpoolReader
from flux_postgres_exporter import copying

log = logging.getLogger(__name__)

POLL = 0.02
POLL_WHEN_AWAITED = 0.005
POLL_IN_TRAFFIC = 0.15
"""Records that come one after the other are stored together: a transaction costs the same for one and for
a hundred.
"""
POLL_WHEN_QUIET = 0.1
QUIET_AFTER = 5.0
"""Seconds without a record after which nobody is in a hurry: an idle server costs next to nothing."""
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0

AWAY = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, TimeoutError)
"""What it looks like when Postgres can't be used now. Records wait; nothing is lost."""


class Drain:
    """Drains spools of one folder. Not for use by several tasks at once; several processes may run one each.

    Args:
        connect_args: for asyncpg.connect, as a role that may write flux.*.
        spool_dir: `.flux/spool`.
        own: the id of a spool to drain while it is written, or None: orphans only.

    Attributes:
        on_records: called after records were stored, if set.
    """

    def __init__(self, connect_args: Mapping[str, Any], spool_dir: Path, own: str | None) -> None:
        self._connect_args = dict(connect_args)
        self._spool_dir = spool_dir
        self._own = own
        self._batches: Batches | None = None
        self._spools: dict[str, DrainedSpool] = {}
        self._refused: set[str] = set()
        self._poll = POLL
        self._stored = 0
        self._looked = time.monotonic()
        self._error: str | None = None
        self.on_records: Callable[[], object] | None = None

    async def once(self) -> int:
        """Drain all that is there now: orphans to their end, then the own spool; how many records were
        stored.

        Raises:
            OSError, asyncpg.PostgresError, asyncpg.InterfaceError: Postgres can't be used; what was not
            stored stays.
        """
        found = folders.spools(self._spool_dir)
        for gone in self._spools.keys() - {folder.name for folder in found}:
            self._forget(gone)
        total = 0
        try:
            with suppress_instrumentation():
                for folder in sorted(found, key=lambda entry: entry.name == self._own):
                    total += await self._drain(folder)
        except BaseException:
            await self._disconnect()
            raise
        if total and self.on_records is not None:
            self.on_records()
        return total

    async def finish(self) -> None:
        """Drain all there is, and the own spool to its end: its writer has closed it or died, but may hold
        it a moment longer.

        Raises:
            As `once`.
        """
        while await self.once() or self._held():
            await asyncio.sleep(POLL_WHEN_AWAITED)

    def _held(self) -> bool:
        """Whether the own spool is there still, and is not one that can't be drained."""
        return any(
            folder.name == self._own and not (folder / DRAINED).exists()
            for folder in folders.spools(self._spool_dir)
            if folder.name not in self._refused
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Drain until `stop` is set. While Postgres is away, tries again after at most a second."""
        pause = FIRST_PAUSE
        last = time.monotonic()
        while not stop.is_set():
            try:
                stored, pause = await self.once(), FIRST_PAUSE
                self._stored += stored
                self._looked, self._error = time.monotonic(), None
                if stored:
                    last = time.monotonic()
                wait = self._wait(stored, time.monotonic() - last)
            except AWAY as error:
                self._error = _reason(error)
                level = logging.WARNING if pause == FIRST_PAUSE else logging.DEBUG
                log.log(level, "records wait in the spool: %s", self._error)
                wait, pause = pause, min(pause * 2, LONGEST_PAUSE)
            except Exception as error:
                self._error = _reason(error)
                log.exception("the drain failed; it goes on in %s s", LONGEST_PAUSE)
                wait = LONGEST_PAUSE
            try:
                await asyncio.wait_for(stop.wait(), wait)
            except TimeoutError:
                continue

    def state(self) -> DrainState:
        """How `run` is doing."""
        return DrainState(os.getpid(), time.monotonic(), self._looked, self._stored, self._error)

    def _wait(self, stored: int, since: float) -> float:
        """Seconds until the next look: `stored` records were found now, the last ones `since` seconds ago."""
        if self._poll != POLL:
            return self._poll
        if stored:
            return POLL_IN_TRAFFIC
        return POLL_WHEN_QUIET if since > QUIET_AFTER else POLL

    async def close(self) -> None:
        """Let go of connection, files and claims. What was not drained is left for the next. Idempotent."""
        await self._disconnect()

    async def _drain(self, folder: Path) -> int:
        if (folder / DRAINED).exists():
            if otlp.needed(folder) is None:
                folders.retire(folder)
            return 0
        spool = self._spools.get(folder.name)
        claim = spool.claim if spool is not None else None
        if claim is None:
            try:
                claim = folders.claim(folder)
            except SpoolError as error:
                self._refuse(folder, f"{error.message} {error.hint or ''}")
                return 0
            if claim is None and folder.name != self._own:
                return 0
        total = 0
        try:
            if spool is None:
                spool = await self._begin(folder, claim)
            spool.claim = claim
            while not spool.finished and (stored := await spool.next_batch()):
                total += stored
                if self._poll == POLL and not spool.behind:
                    break  # what has come meanwhile is a few records: they wait for others
        except Moved:
            log.info("spool %s was advanced by another drain", folder.name)
            self._forget(folder.name)
            return total
        if spool.finished:
            if spool.claim is None:
                self._refuse(
                    folder, f"Spool {folder.name} was finished elsewhere, from a copy; its writer lives."
                )
                return total
            await spool.remove()
            self._forget(folder.name)
        return total

    def _refuse(self, folder: Path, reason: str) -> None:
        if folder.name not in self._refused:
            self._refused.add(folder.name)
            log.error("%s", reason)

    async def _begin(self, folder: Path, claim: folders.Claim | None) -> DrainedSpool:
        try:
            spool = DrainedSpool(SpoolReader(folder), claim, await self._connected())
            self._spools[folder.name] = spool
            await spool.load()
        except BaseException:
            self._forget(folder.name)
            if claim is not None:
                claim.release()
            raise
        if claim is None:
            awaited = folders.read_meta(folder).durability == "postgres"
            self._poll = POLL_WHEN_AWAITED if awaited else POLL
        return spool

    async def _connected(self) -> Batches:
        if self._batches is None:
            connection = await asyncpg.connect(**self._connect_args, command_timeout=copying.PATIENCE)
            folders.sweep(self._spool_dir)
            try:
                self._batches = Batches(connection, await connection.fetchval(Q.system_identifier))
            except BaseException:
                connection.terminate()
                raise
        return self._batches

    async def _disconnect(self) -> None:
        for node in list(self._spools):
            self._forget(node)
        batches, self._batches = self._batches, None
        if batches is not None and not batches.connection.is_closed():
            try:
                await batches.connection.close(timeout=1.0)
            except AWAY:
                batches.connection.terminate()

    def _forget(self, node: str) -> None:
        spool = self._spools.pop(node, None)
        if spool is not None:
            spool.close()
            if spool.claim is not None:
                spool.claim.release()


def _reason(error: BaseException) -> str:
    """What to say of it. That a transaction can't be left on a lost connection says nothing: what lost it
    does.
    """
    while isinstance(error, asyncpg.InterfaceError) and isinstance(error.__context__, AWAY):
        error = error.__context__
    return f"{type(error).__name__}: {error}"
