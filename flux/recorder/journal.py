"""The journal: events encoded, cleared of secrets, sealed and appended. Shared by the Recorder and its
executions.

What goes through here is final: nothing else writes to the spool.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec
from opentelemetry.sdk.trace import ReadableSpan

from flux.record.events import Event, Resource
from flux.recorder.redaction import Redaction
from flux.recorder.scrub import Originals, scrub
from flux.recorder.seal import Sealer
from flux.spool.frames import frame
from flux.spool.writer import Spool
from flux_postgres_exporter import rows

_NONE: Mapping[str, str] = {}
_encode = msgspec.msgpack.Encoder().encode


class Journal:
    """Where one process writes its events.

    Attributes:
        number: gives the next of the node's numbers, from 1: they order starts and deliveries of all its
            host calls.
        clock: wall clock, ns. ticks: monotonic clock, ns.
        loose: ids of open spans that belong to no execution (yet).
    """

    def __init__(
        self,
        spool: Spool,
        sealer: Sealer,
        redaction: Redaction,
        *,
        clock: Callable[[], int] = time.time_ns,
        ticks: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self.spool = spool
        self.sealer = sealer
        self.redaction = redaction
        self.clock = clock
        self.ticks = ticks
        self.number = itertools.count(1).__next__
        self.loose: set[int] = set()
        self._resources: set[str] = set()

    def write(self, event: Event, originals: Originals, *, begins: bool = False) -> None:
        """Append one event.

        Args:
            event: changed in place where a secret stands in it.
            originals: what redaction took out of its structs so far; each struct's `sealed` is made of it.
            begins: it begins an execution (see Spool.append).

        Raises:
            SpoolError: it was not written.
        """
        self.spool.write(self.framed(event, originals), begins=begins)

    def framed(self, event: Event, originals: Originals) -> bytes:
        """The event as it will stand in the spool; several may be joined and written at once."""
        if originals:
            self._seal(originals)
        data = encode(event)
        secrets = self.redaction.secrets
        if secrets.within(data):
            scrub(event, secrets, originals)
            self._seal(originals)
            data = encode(event)
        return frame(data)

    def span_rows(
        self, spans: Iterable[ReadableSpan], params: Mapping[str, str] = _NONE
    ) -> list[tuple[object, ...]]:
        """Spans as rows; a resource that the spool does not know yet is appended.

        Args:
            params: the parameters of their execution's path, of which some may be withheld.
        """
        encoded = []
        for span in spans:
            row = rows.encode(span)
            if row[rows.RESOURCE] not in self._resources:
                self.write(Resource(row[rows.RESOURCE], rows.resource_json(span.resource.attributes)), {})
                self._resources.add(row[rows.RESOURCE])
            if self.redaction.paths:
                attributes = self._withhold_query(row[rows.ATTRIBUTES], params)
                row = (*row[: rows.ATTRIBUTES], attributes, *row[rows.ATTRIBUTES + 1 :])
            encoded.append(row)
        return encoded

    def _withhold_query(self, attributes: dict[str, Any], params: Mapping[str, str]) -> dict[str, Any]:
        kept = {**attributes}
        query, full, path = (kept.get(f"url.{part}") for part in ("query", "full", "path"))
        if params and isinstance(path, str):
            kept["url.path"] = self.redaction.path(path, params)
        if isinstance(query, str):
            kept["url.query"] = self.redaction.query(query)
        if isinstance(full, str):
            kept["url.full"] = self.redaction.path(self.redaction.url(full), params)
        return kept

    def _seal(self, originals: Originals) -> None:
        for struct, values in originals.values():
            struct.sealed = self.sealer.seal(values)


def encode(event: Event) -> bytes:
    """msgpack of an event. Values that msgpack can't carry are cleaned first: half a surrogate pair becomes
    U+FFFD, an integer over 64 bits its text.
    """
    try:
        return _encode(event)
    except (UnicodeEncodeError, OverflowError, TypeError):
        return _encode(_fit(msgspec.to_builtins(event, builtin_types=(bytes,))))


def _fit(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, bool | float | bytes) or value is None:
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**64 else str(value)
    if isinstance(value, dict):
        return {_fit(name): _fit(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [_fit(member) for member in value]
    return _fit(str(value))
