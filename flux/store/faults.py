"""What to tell a person when a database can't be reached. Called by Store.open; never shows a password."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import parse_qs, unquote, urlsplit

import asyncpg

from flux.errors import StoreError

_FORM = "postgresql://user:password@host:5432/database"
_UNREADABLE = "the database that DATABASE_URL names"


def where(url: str | None) -> str:
    """Which database a URL means, in words: `database "app" on db.example:5432`; None is the embedded one."""
    if url is None:
        return "the embedded Postgres"
    try:
        parts = urlsplit(url)
    except ValueError:
        return _UNREADABLE
    if "@" in parts.path:
        # A password with an unescaped slash: what was taken for the host is a part of it.
        return _UNREADABLE
    query = parse_qs(parts.query)
    host = parts.netloc.rpartition("@")[2] or query.get("host", ["localhost"])[0]
    database = unquote(parts.path.lstrip("/")) or query.get("dbname", [""])[0] or parts.username
    return f'database "{database or "postgres"}" on {host}'


@contextmanager
def named(place: str) -> Iterator[None]:
    """Turn a failure to connect within into a StoreError about `place`, with what to do about it."""
    try:
        yield
    except (asyncpg.InvalidPasswordError, asyncpg.InvalidAuthorizationSpecificationError) as error:
        raise StoreError(
            f"The server refused the login to {place}: {error}.", "Check user and password in DATABASE_URL."
        ) from error
    except asyncpg.InvalidCatalogNameError as error:
        raise StoreError(
            f"There is no such database: {place}.", "Create it (createdb), or correct DATABASE_URL."
        ) from error
    except asyncpg.TooManyConnectionsError as error:
        raise StoreError(
            f"The server has no connection left for {place}.",
            "Raise its max_connections, lower pool_size, or put a pooler in front.",
        ) from error
    except asyncpg.CannotConnectNowError as error:
        raise StoreError(
            f"The server is not ready for {place}: {error}.", "Try again in a moment."
        ) from error
    except (asyncpg.ClientConfigurationError, ValueError):
        # Not chained: what the parser says may quote the password.
        raise StoreError("DATABASE_URL is not a Postgres URL.", f"It has the form {_FORM}.") from None
    except TimeoutError as error:
        raise StoreError(
            f"The server did not answer in time: {place}.",
            "Check host and port in DATABASE_URL, and firewalls.",
        ) from error
    except OSError as error:
        raise StoreError(
            f"The server can't be reached: {place} ({error.strerror or type(error).__name__}).",
            "Check host and port in DATABASE_URL, and that the server runs.",
        ) from error
    except (asyncpg.PostgresConnectionError, asyncpg.InterfaceError) as error:
        raise StoreError(f"The connection to {place} failed: {error}.", "Check DATABASE_URL.") from error
