"""The user's database as functions see it: a pool of flux_app connections, from which each execution gets a
Session.

Opened once by the application (flux.app); `schema_changed` is called after a schema file was applied.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Literal, Protocol

from flux.data.pool import Pool
from flux.data.session import Session
from flux.recorder.job_payloads import Conceal, in_the_open

_PLAIN_SETTINGS = {"TimeZone": "UTC", "DateStyle": "ISO, MDY"}
_SETTINGS = {
    **_PLAIN_SETTINGS,
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "default_transaction_read_only": "off",
    "row_security": "on",
    "standard_conforming_strings": "on",
}
"""What functions' sessions begin with, and are reset to, whatever the database or the role has been given."""


class Source(Protocol):
    """Where the database is: flux.store.database.Store has this."""

    @property
    def app_connect_args(self) -> dict[str, Any]:
        """Keyword arguments for asyncpg.connect as the role that functions run as."""
        ...

    async def session_token(self) -> bytes:
        """What opens `flux.enter()`."""
        ...

    async def heal_app_role(self) -> None:
        """Take off what somebody gave that role: settings, another password."""
        ...


class UserDatabase:
    """Functions' way to Postgres: sessions over its `pool`.

    A connection that Postgres ended (a restart) is replaced when it is next asked for. Only statements
    in flight are lost, as `connection_failure`.
    """

    def __init__(self, pool: Pool, token: bytes, *, pooled: bool) -> None:
        self.pool = pool
        self._token = token
        self._pooled = pooled

    @classmethod
    async def open(
        cls,
        store: Source,
        *,
        size: int,
        pooler: Literal["session", "transaction"] = "session",
        program: str = "flux",
    ) -> UserDatabase:
        """Open the database and check that it answers.

        Args:
            store: where it is.
            size: most connections at once.
            pooler: "transaction" behind PgBouncer and its like: nothing is prepared on the server and each
                statement is a transaction.
            program: what the connections call themselves; changed rows bear it (`identity.program_of`).

        Raises:
            OSError, asyncpg.PostgresError: it does not answer.
        """
        pooled = pooler == "transaction"
        arguments = dict(store.app_connect_args)
        arguments["server_settings"] = {
            **(_PLAIN_SETTINGS if pooled else _SETTINGS),
            **arguments.get("server_settings", {}),
            "application_name": program,
        }
        arguments["statement_cache_size"] = 0 if pooled else 256
        arguments["max_cached_statement_lifetime"] = 0
        pool = Pool(arguments, size=size, prefixes=not pooled, heal=store.heal_app_role)
        pool.release(await pool.acquire(None))
        return cls(pool, await store.session_token(), pooled=pooled)

    def session(
        self,
        request_id: str,
        day: str,
        *,
        function: str = "",
        deadline: float | None = None,
        now_ns: Callable[[], int] = time.time_ns,
        conceal: Conceal = in_the_open,
    ) -> Session:
        """A session for one execution.

        Args:
            request_id: 32 hex digits.
            day: YYYY-MM-DD, UTC.
            function: whose it is.
            deadline: on the event loop's clock: until when its calls may wait for a connection.
            now_ns: the execution's clock.
            conceal: what is stored of a job's payload and idempotency key.
        """
        return Session(
            self.pool,
            request_id,
            day,
            token=self._token,
            function=function,
            pooled=self._pooled,
            deadline=deadline,
            now_ns=now_ns,
            conceal=conceal,
        )

    def schema_changed(self) -> None:
        """Tables or types are other ones now: drop what was prepared for the old ones."""
        self.pool.schema_changed()

    async def close(self) -> None:
        """Close all connections; waits until those being cleaned are done."""
        await self.pool.close()
