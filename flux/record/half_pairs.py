"""Decoding JSON that may hold halves of surrogate pairs, which JavaScript's strings can and UTF-8 can't. Used
wherever a guest's arguments are read.
"""

from __future__ import annotations

import re
from typing import TypeVar

import msgspec

T = TypeVar("T")

READ_AS = "\ufffd"

_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<half>u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
"""Every escape in JSON text: a surrogate pair, half of one, or another's beginning."""


def decode(decoder: msgspec.json.Decoder[T], data: bytes) -> T:
    """What `decoder` makes of `data`: half a pair in a string is read as U+FFFD, in a msgspec.Raw it stays
    as it was written.

    Raises:
        msgspec.DecodeError: it is no JSON, is nested too deeply (about 1,000 levels are read), or
            (msgspec.ValidationError) is not what the decoder takes.
        UnicodeDecodeError: it is not UTF-8.
    """
    try:
        return _decode(decoder, data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        mended = mend(data)
        if mended == data:
            raise
    # The mended text is as long, and a Raw is a view of it: with the bytes put back it shows what was
    # written.
    view = bytearray(mended)
    found = _decode(decoder, view)
    view[:] = data
    return found


def stand_in(data: bytes) -> bool:
    """Whether half a pair stands somewhere in JSON text. A decoder's own word for it varies."""
    return any(escape["half"] for escape in _ESCAPE.finditer(data))


def mend(data: bytes) -> bytes:
    """JSON text with each half of a pair read as U+FFFD; as long as it was."""
    return _ESCAPE.sub(_whole, data)


def _decode(decoder: msgspec.json.Decoder[T], data: bytes | bytearray) -> T:
    try:
        return decoder.decode(data)
    except RecursionError as error:
        raise msgspec.DecodeError("nested too deeply (about 1,000 levels are read)") from error


def _whole(escape: re.Match[bytes]) -> bytes:
    return b"\\ufffd" if escape["half"] else escape[0]
