"""Store: a project's Postgres, embedded or outside, as every other package gets it.

The app and the CLI open one per process. It starts or joins the embedded server, checks and migrates the
schema, makes the role that functions run as, and holds the pool of owner connections for `flux.*`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import asyncpg

from flux.config import Config
from flux.errors import StoreError
from flux.store import embedded, faults, roles
from flux.store import migrate as migrations
from flux.store.embedded import Lease
from flux.store.keepalive import Watched
from flux.store.untraced import untraced

OLDEST = 14
"""The oldest major version of Postgres that Flux works with."""

_OWN_SETTINGS = {
    "default_transaction_read_only": "off",
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "search_path": '"$user", public',
    "row_security": "on",
    "standard_conforming_strings": "on",
    "check_function_bodies": "on",
    "bytea_output": "hex",
}
"""What the owner's connections begin with, whatever the database or the role has been given."""

_CONNECT_TIMEOUT = 10.0
_CLOSE_TIMEOUT = 5.0
_RENEW_PAUSE = 0.5
_log = logging.getLogger(__name__)


class Store:
    """The database of one project, open.

    Attributes:
        records: owner connections for `flux.*`; use them through `internal`, so that they are never traced.
        connect_args: for asyncpg.connect as owner.
        app_connect_args: for asyncpg.connect as `flux_app`, or as owner where that role can't be made.
        embedded: whether the server is Flux's own under .flux/.
        protected: whether functions run as a role that can't touch `flux.*`; False where none will run.
    """

    def __init__(
        self,
        records: asyncpg.Pool,
        connect_args: dict[str, Any],
        app_connect_args: dict[str, Any],
        *,
        protected: bool,
        lease: Lease | None,
    ) -> None:
        self.records = records
        self.connect_args = connect_args
        self.app_connect_args = app_connect_args
        self.protected = protected
        self.embedded = lease is not None
        self._lease = lease
        self._guard = asyncio.create_task(self._keep(lease)) if lease is not None else None

    @classmethod
    async def open(
        cls,
        config: Config,
        *,
        application_name: str,
        pool_size: int = 4,
        migrate: bool = True,
        functions: bool = True,
    ) -> Store:
        """Reach the project's Postgres, starting the embedded one if need be.

        Args:
            config: names the database, the project folder and the master key.
            application_name: what the connections call themselves in pg_stat_activity.
            pool_size: most owner connections held.
            migrate: bring the schema up to date and make `flux_app`; False only looks.
            functions: whether their role is wanted. A command that only reads leaves it alone, which saves it
                a second connection.

        Raises:
            StoreError: it can't be started or reached, or is too old; the message never shows the password.
            MigrationError: its schema is not one that this version can work with.
        """
        lease: Lease | None = None
        pool: asyncpg.Pool | None = None
        with untraced():
            try:
                if config.database_url is None:
                    given = config.environment.get("FLUX_POSTGRES_BIN")
                    binaries = Path(given) if given else None
                    lease = await asyncio.to_thread(embedded.acquire, config.flux_dir, binaries=binaries)
                owner = _connect_args(config, lease, application_name)
                with faults.named(faults.where(config.database_url)):
                    pool = await asyncpg.create_pool(**owner, min_size=0, max_size=pool_size)
                    await pool.release(await pool.acquire())
                async with pool.acquire() as connection:
                    _check_version(connection)
                    if migrate:
                        await migrations.apply(connection)
                    app = await _app_args(config, owner, connection, make=migrate) if functions else None
            except BaseException:
                if pool is not None:
                    pool.terminate()
                if lease is not None:
                    lease.close()
                raise
        return cls(pool, owner, app or owner, protected=app is not None, lease=lease)

    @asynccontextmanager
    async def internal(self, *, patience: float | None = None) -> AsyncIterator[Any]:
        """An owner connection for Flux's own statements; nothing that runs inside is traced.

        Args:
            patience: seconds after which the connection is given up, so that what waits for it fails as if
                it had been lost. Cancelling would not do: asyncpg then waits until Postgres has acknowledged
                it, and one that is gone without a word never does.

        Raises:
            asyncpg.PostgresError, asyncpg.InterfaceError, OSError: Postgres refused, was lost, or did not
                answer in time.
        """
        given_up = False

        def give_up() -> None:
            nonlocal given_up
            given_up = True
            with contextlib.suppress(asyncpg.InterfaceError):  # it has just been given back
                connection.terminate()

        with untraced():
            try:
                connection = await self.records.acquire(timeout=patience)
                limit = None
                if patience is not None:
                    limit = asyncio.get_running_loop().call_later(patience, give_up)
                try:
                    yield connection
                finally:
                    try:
                        await self._give_back(connection)
                    finally:
                        if limit is not None:
                            limit.cancel()
            except Exception as error:
                # asyncpg trips over its own feet where a connection goes in the middle of a call.
                if given_up:
                    message = f"Postgres did not answer within {patience:g} s"
                elif isinstance(error, asyncpg.InternalClientError):
                    message = "the connection was lost"
                else:
                    raise
                raise asyncpg.ConnectionDoesNotExistError(message) from error

    async def session_token(self) -> bytes:
        """What opens `flux.enter()` in sessions of `flux_app`."""
        async with self.internal() as connection:
            return bytes(await connection.fetchval("SELECT token FROM flux.gate"))

    async def heal_app_role(self) -> None:
        """Take off `flux_app` what somebody gave it: it may change its own settings and password, and so may
        the SQL of a function. Does what the owner's rights allow."""
        async with self.internal() as connection:
            await roles.heal(connection, self.app_connect_args.get("password") if self.protected else None)

    async def _give_back(self, connection: Any) -> None:
        """Return a connection to the pool. One that is lost there is closed; whoever had it need not know."""
        try:
            await self.records.release(connection, timeout=_CLOSE_TIMEOUT)
        except Exception as error:
            _log.debug("a connection was lost as it was given back: %r", error)

    async def close(self) -> None:
        """Give back every connection, and the embedded server if this was its last user."""
        if self._guard is not None:
            self._guard.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._guard
        try:
            with untraced():
                async with asyncio.timeout(_CLOSE_TIMEOUT):
                    await self.records.close()
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
            # In use still, or the server is gone: nothing is left to be given back in good order.
            self.records.terminate()
        finally:
            if self._lease is not None:
                self._lease.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _keep(self, lease: Lease) -> None:
        """Take a new lease whenever the keeper was killed;

        pools reconnect by themselves, the address is the same.
        """
        loop = asyncio.get_running_loop()
        while True:
            gone = asyncio.Event()
            descriptor = lease.fileno()
            loop.add_reader(descriptor, gone.set)
            try:
                await gone.wait()
            finally:
                loop.remove_reader(descriptor)
            _log.warning("the embedded Postgres went away; starting it again")
            while True:
                try:
                    await asyncio.to_thread(lease.renew)
                    break
                except StoreError as error:
                    _log.error("%s", error.message)
                    await asyncio.sleep(_RENEW_PAUSE)


def _connect_args(config: Config, lease: Lease | None, application_name: str) -> dict[str, Any]:
    address = {"dsn": config.database_url} if lease is None else lease.connect_args
    settings = {"application_name": application_name, "timezone": "UTC"}
    if config.pooler != "transaction":  # which refuses settings that it doesn't know
        settings |= _OWN_SETTINGS
    arguments: dict[str, Any] = {
        **address,
        "server_settings": settings,
        "timeout": _CONNECT_TIMEOUT,
        "connection_class": Watched,
    }
    if config.pooler == "transaction":
        # A prepared statement would outlive the transaction and meet another server connection.
        arguments["statement_cache_size"] = 0
    return arguments


def _check_version(connection: Any) -> None:
    version = connection.get_server_version()
    if version.major < OLDEST:
        raise StoreError(
            f"The server is Postgres {version.major}; Flux needs {OLDEST} or later.",
            "Upgrade it, or unset DATABASE_URL to use the embedded one.",
        )


async def _app_args(
    config: Config, owner: dict[str, Any], connection: Any, *, make: bool
) -> dict[str, Any] | None:
    """How to connect as `flux_app`, tried out; None where functions have to run as the owner."""
    outside = config.database_url is not None
    password = roles.app_password(config.master_key) if outside and config.master_key else None
    arguments = {**owner, "user": roles.APP_ROLE, "password": password}
    if make and not await roles.ensure_app_role(connection, None):
        return None
    if await _connects(arguments):
        return arguments
    # It has no password yet, or one of another master key.
    if make and outside and password and await roles.ensure_app_role(connection, password):
        return arguments if await _connects(arguments) else None
    return None


async def _connects(arguments: dict[str, Any]) -> bool:
    try:
        connection = await asyncpg.connect(**arguments)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        return False
    try:
        return bool(await connection.fetchval("SELECT current_user = 'flux_app'"))
    finally:
        await connection.close()
