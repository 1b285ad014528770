"""Compressed content in payloads: found, unpacked within limits, looked into. Used by redaction.

gzip is known by its first bytes wherever it stands, as it is or in base64. Other encodings are named by a
header.
"""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Callable, Iterator
from typing import Final

GZIP: Final = b"\x1f\x8b\x08"
HINTS: Final = (b"H4sI", b"contentencoding", b"ContentEncoding", b"CONTENTENCODING")
"""What stands in a record that may hold compressed content: gzip in base64, or the header that names it. As
canonical text, without `-`.
"""
MOST: Final = 16 * 2**20
"""Bytes that one body is unpacked to at most; what is larger counts as unreadable."""

_BASE64 = re.compile(rb"H4sI(?:[A-Za-z0-9+/_-]|\\/|\\?[\r\n]|\\[nr])+={0,2}")
_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/_-]|\\[nr]")


def spans(data: bytes, holds: Callable[[bytes], bool]) -> Iterator[tuple[int, int]]:
    """Where gzip stands in `data` whose content `holds` something, or can't be looked into."""
    at = data.find(GZIP)
    while at >= 0:
        plain, end = _gunzip(data, at)
        if plain is None or holds(plain):
            yield at, end
        at = data.find(GZIP, end)
    for match in _BASE64.finditer(data):
        digits = _NOT_BASE64.sub(b"", match[0]).translate(bytes.maketrans(b"-_", b"+/"))
        whole = base64.b64decode(digits[: len(digits) // 4 * 4] if len(digits) % 4 == 1 else pad(digits))
        if not whole.startswith(GZIP):
            continue
        plain, _ = _gunzip(whole, 0)
        if plain is None or holds(plain):
            yield match.span()


def pad(digits: bytes) -> bytes:
    """Base64 digits with their padding."""
    return digits + b"=" * (-len(digits) % 4)


def unpack(encoding: str, data: bytes) -> bytes | None:
    """A body without its Content-Encoding; None where it can't be read: an unknown one, broken, or too large.

    Args:
        encoding: the header's value; several are undone from the last to the first.
    """
    for name in reversed([part.strip().lower() for part in encoding.split(",") if part.strip()]):
        if name in ("identity", ""):
            continue
        if name in ("gzip", "x-gzip"):
            plain = _inflate(data, 31)[0]
        elif name == "deflate":
            plain = _inflate(data, 15)[0]
            if plain is None:
                plain = _inflate(data, -15)[0]
        else:
            return None
        if plain is None:
            return None
        data = plain
    return data


def _gunzip(data: bytes, at: int) -> tuple[bytes | None, int]:
    """What the gzip that begins at `at` holds, None where it can't be read, and where it ends."""
    plain, left = _inflate(data[at:], 31)
    return plain, len(data) - left


def _inflate(data: bytes, bits: int) -> tuple[bytes | None, int]:
    """The content, and how many bytes follow it. Cut off in the middle: what there is of it."""
    unpacking = zlib.decompressobj(bits)
    try:
        plain = unpacking.decompress(data, MOST)
    except zlib.error:
        return None, 0
    return (None, 0) if unpacking.unconsumed_tail else (plain, len(unpacking.unused_data))
