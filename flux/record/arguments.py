"""What a guest may say in a host call: one struct per operation, which `flux.record.ops` reads it into.

Guests are not trusted: whatever doesn't fit is refused in words that name the operation and the member.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

LONGEST_SLEEP_MS: Final = 2**31 - 1
"""What JavaScript's setTimeout can hold; a longer sleep belongs in a delayed job."""

_TEN_YEARS_MS: Final = 10 * 366 * 86_400_000

_Delay = Annotated[int, Meta(ge=0, le=_TEN_YEARS_MS)] | Annotated[float, Meta(ge=0, le=_TEN_YEARS_MS)]
Name = Annotated[str, Meta(min_length=1, max_length=200)]


class Binary(msgspec.Struct):
    """Bytes in JSON: `{"$bytea": base64}`."""

    data: bytes = msgspec.field(name="$bytea")


_Patience = Annotated[float, Meta(gt=0)] | None


class FetchTimeout(msgspec.Struct):
    """How long a `fetch` waits, in ms: for a connection, between two pieces of the answer or of what is sent,
    and for a place among the connections. Null: no limit but the execution's.
    """

    connect: _Patience = None
    read: _Patience = None
    write: _Patience = None
    pool: _Patience = None


class Fetch(msgspec.Struct):
    """Arguments of `fetch`."""

    url: str
    method: str = "GET"
    headers: list[tuple[str, str]] = []
    body: str | Binary | None = None
    redirect: Literal["follow", "manual", "error"] = "follow"
    timeout: FetchTimeout | None = None

    def content(self) -> bytes | None:
        """The body as bytes, or None where there is none."""
        if isinstance(self.body, Binary):
            return self.body.data
        return None if self.body is None else self.body.encode()


class PushOptions(msgspec.Struct, rename="camel"):
    """Options of `queue.push`; null is as good as absent."""

    delay: _Delay | None = None
    idempotency_key: Name | None = None
    max_attempts: Annotated[int, Meta(ge=1, le=1000)] | None = None

    @property
    def delay_ms(self) -> int | None:
        """The delay in whole milliseconds."""
        return None if self.delay is None else int(self.delay)


class Named(msgspec.Struct):
    """Arguments that say which of several things is meant."""

    @property
    def names(self) -> str:
        """The texts that say so. Two that differ must not be read alike."""
        raise NotImplementedError


class Push(Named):
    """Arguments of `queue.push`. `payload` is exact JSON."""

    name: Name
    payload: Raw = Raw(b"null")
    options: PushOptions | None = None

    @property
    def names(self) -> str:
        """The function, and the key that makes a second push a duplicate."""
        key = None if self.options is None else self.options.idempotency_key
        return self.name if key is None else self.name + key


class Invoke(Named):
    """Arguments of `invoke`. `payload` is exact JSON."""

    name: Name
    payload: Raw = Raw(b"null")

    @property
    def names(self) -> str:
        """The function."""
        return self.name


class Secret(Named):
    """Arguments of `secrets.get`; a null fallback is none."""

    key: Name
    fallback: str | None = None

    @property
    def names(self) -> str:
        """The secret."""
        return self.key


class Sleep(msgspec.Struct):
    """Arguments of `sleep`."""

    ms: Annotated[int, Meta(ge=0, le=LONGEST_SLEEP_MS)] | Annotated[float, Meta(ge=0, le=LONGEST_SLEEP_MS)]


class Log(msgspec.Struct):
    """Arguments of `log`. `fields` is exact JSON."""

    message: str
    level: str = "info"
    fields: Raw | UnsetType = UNSET


class SpanStart(msgspec.Struct):
    """Arguments of `span.start`."""

    name: str
    attributes: dict[str, Any] | None = None


class SpanError(msgspec.Struct):
    """What ended a span in error."""

    type: str = "Error"
    message: str = ""


class SpanEnd(msgspec.Struct):
    """Arguments of `span.end`: `start` is the `n` of the `span.start` it ends."""

    start: int
    error: SpanError | None = None


class Query(msgspec.Struct):
    """The one member of `db.query` that tells a read from a write; the rest `flux.data.builder` reads."""

    operation: Any = "select"

    @property
    def writes(self) -> bool:
        """Whether it may change rows."""
        return bool(self.operation != "select")


class Sql(msgspec.Struct):
    """Arguments of `db.sql`. Each parameter is exact JSON."""

    text: str
    params: list[Raw] = []


class Begin(msgspec.Struct):
    """Arguments of `db.begin`. Null is as good as absent."""

    isolation: str | None = None
    readonly: bool | None = None


class Nothing(msgspec.Struct):
    """Arguments of an operation that takes none: any JSON object."""
