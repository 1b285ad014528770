"""Forms, as query strings and as bodies (URL-encoded, and multipart/form-data of RFC 7578), with values taken
out. Used by redaction alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from email.message import Message
from urllib.parse import quote_plus, unquote_plus, unquote_to_bytes

Withhold = Callable[[str, bytes], bytes]
"""What is recorded of a field, from its name and value; the same bytes where nothing is withheld."""

_NAME = re.compile(rb'^content-disposition:[^\r\n]*?;[ \t]*name=(?:"([^"\r\n]*)"|([^;\s]+))', re.I | re.M)
_ESCAPED = re.compile(r"%(22|0D|0A)", re.I)


def urlencoded(text: str, withhold: Withhold) -> str:
    """`name=value&…`, a query string or a body; the same text where nothing is withheld."""
    parts = text.split("&")
    hit = False
    for at, part in enumerate(parts):
        name, equals, encoded = part.partition("=")
        if equals:
            value = unquote_to_bytes(encoded.replace("+", " "))
            kept = withhold(unquote_plus(name), value)
            if kept != value:
                parts[at] = f"{name}={quote_plus(kept, safe='[]')}"
                hit = True
    return "&".join(parts) if hit else text


def body(content_type: str, data: bytes, withhold: Withhold) -> bytes | None:
    """A form's body; the same bytes where nothing is withheld, None where it is no form that can be read."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/x-www-form-urlencoded":
        if data.lstrip()[:1] in (b"{", b"[", b'"'):
            return None  # JSON, under the type that curl gives everything
        text = data.decode("latin-1")
        kept = urlencoded(text, withhold)
        return data if kept is text else kept.encode("latin-1")
    if kind == "multipart/form-data":
        return _multipart(content_type, data, withhold)
    return None


def _multipart(content_type: str, data: bytes, withhold: Withhold) -> bytes | None:
    header = Message()
    header["content-type"] = content_type
    boundary = header.get_param("boundary")
    if not isinstance(boundary, str) or not boundary:
        return None
    mark = b"--" + boundary.encode("latin-1", "replace")
    before, *parts = data.split(mark)
    if not parts:
        return None
    hit = False
    for at, part in enumerate(parts):
        head, gap, content = part.partition(b"\r\n\r\n")
        found = _NAME.search(head)
        if not gap or found is None:
            continue
        name = (found[1] if found[1] is not None else found[2]).decode("utf-8", "replace")
        value = content.removesuffix(b"\r\n")
        kept = withhold(_ESCAPED.sub(lambda code: chr(int(code[1], 16)), name), value)
        if kept != value:
            parts[at] = head + gap + kept + content[len(value) :]
            hit = True
    return mark.join((before, *parts)) if hit else data
