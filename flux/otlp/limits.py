"""How much of a span is sent: the specification's span limits, applied at the export. The record has none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from opentelemetry.attributes import BoundedAttributes

_INT64 = 2**63


@dataclass(frozen=True)
class Limits:
    """Most attributes, events and links of a span, most attributes of an event or a link, most characters
    of a string; None is no limit. The defaults are the specification's.
    """

    attributes: int | None = 128
    length: int | None = None
    events: int | None = 128
    links: int | None = 128
    event_attributes: int | None = 128
    link_attributes: int | None = 128

    def cut(self, given: Mapping[str, Any] | None, count: int | None) -> BoundedAttributes:
        """Attributes as they are sent: the first `count`, what was left out counted."""
        kept = given or {}
        made = BoundedAttributes()
        if count is not None and len(kept) > count:
            made.dropped = len(kept) - count
            kept = dict(list(kept.items())[:count])
        made._dict = {name: self.value(value) for name, value in kept.items()}
        return made

    def value(self, value: Any) -> Any:
        """A value as OTLP can hold it: long strings cut, integers over 64 bits as text."""
        if isinstance(value, str):
            return value if self.length is None else value[: self.length]
        if isinstance(value, bool | float) or value is None:
            return value
        if isinstance(value, int):
            return value if -_INT64 <= value < _INT64 else str(value)
        if isinstance(value, bytes):
            return value if self.length is None else value[: self.length]
        if isinstance(value, Mapping):
            return {str(name): self.value(member) for name, member in value.items()}
        return [self.value(member) for member in value]
