"""The role `flux_app` that functions run as: it owns nothing and can't touch the schema `flux`.

Store.open makes it; what it may do with users' tables is granted where capture is installed. A role belongs
to a whole server, so every database there shares it, and with it the password.
"""

from __future__ import annotations

import logging

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from flux.store.sql import Queries

APP_ROLE = "flux_app"

_Q = Queries("flux.store")
_ATTEMPTS = 5
_log = logging.getLogger(__name__)


def app_password(master_key: bytes) -> str:
    """The role's password on an outside server:

    HKDF-SHA256 (RFC 5869) of the master key, as 64 hex digits.
    """
    # Imported here: the embedded server has no password, and every command would wait for it.
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(SHA256(), 32, salt=None, info=b"flux/flux_app/password").derive(master_key).hex()


async def ensure_app_role(connection: asyncpg.Connection | PoolConnectionProxy, password: str | None) -> bool:
    """Make `flux_app` if it isn't there, and set its password.

    Safe from several processes at once, in several databases of a server too.

    Args:
        connection: of the owner, in no transaction.
        password: to set; None leaves it as it is.

    Returns:
        True when the role is there, may connect to this database and has no power that would make it
        pointless; False where it can't be made so with this owner's rights. Nothing is raised for lack of
        rights.
    """
    for attempt in range(_ATTEMPTS):
        try:
            return await _ensure(connection, password)
        except (asyncpg.DuplicateObjectError, asyncpg.UniqueViolationError, asyncpg.InternalServerError):
            # Another process made or altered it in the same moment ("tuple concurrently updated").
            if attempt == _ATTEMPTS - 1:
                raise
        except asyncpg.InsufficientPrivilegeError:
            return False
    return False


async def _ensure(connection: asyncpg.Connection | PoolConnectionProxy, password: str | None) -> bool:
    role = await connection.fetchrow(_Q.app_role)
    if role is None:
        await connection.execute(_Q.create_app_role)
        role = await connection.fetchrow(_Q.app_role)
    if role is None or not role["powerless"] or role["self"]:
        return False
    if not role["connects"]:
        await connection.execute(_Q.grant_connect)
    if password is not None:
        await connection.execute(await connection.fetchval(_Q.set_app_password, password))
    return True


async def heal(connection: asyncpg.Connection | PoolConnectionProxy, password: str | None) -> None:
    """Take every setting off `flux_app`, in this database and in all, and set its password again.

    Settings that functions should have belong to the database (ALTER DATABASE): those of the role are
    anybody's who can run SQL as a function.

    Args:
        connection: of the owner.
        password: to set; None leaves it as it is.
    """
    for statement in await connection.fetchval(_Q.role_settings_off):
        try:
            await connection.execute(statement)
        except asyncpg.InsufficientPrivilegeError as error:
            _log.warning("flux_app keeps its settings: %s", error)
    if password is not None:
        await ensure_app_role(connection, password)
