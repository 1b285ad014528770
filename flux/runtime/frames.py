"""The framed protocol between the host process and a guest process.

It runs over a socketpair that is the guest's stdin and stdout. A frame is
`u32be length | u32be header length | header | body`. `length` counts all after itself. The header
is a JSON object with a `t` member (the frame's type). The body is raw bytes (a request body, exact
JSON), often empty. docs/architecture.md lists the types. Both guests implement the same few lines.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, cast

import orjson

from flux.errors import RuntimeFault

LARGEST_FRAME = 256 * 2**20
LARGEST_HEADER = 2**20
_HEAD = struct.Struct(">II")

Header = dict[str, Any]


def encode(header: Header, body: bytes = b"") -> bytes:
    """One frame."""
    return frame(orjson.dumps(header), body)


def frame(head: bytes, body: bytes) -> bytes:
    """One frame whose header is JSON text already."""
    return b"".join((_HEAD.pack(4 + len(head) + len(body), len(head)), head, body))


class Decoder:
    """Turns a stream of bytes into frames. Not safe against use after it raised: the stream is then broken
    for good.
    """

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[Header, bytes]]:
        """Add `data`; yield each frame it completes.

        Raises:
            RuntimeFault: the bytes are not this protocol (a forged or broken frame).
        """
        rest = self._rest
        if rest:
            rest += data
            if not self._complete():
                return
            data = bytes(rest)
            rest.clear()
        at, size = 0, len(data)
        try:
            while size - at >= 8:
                length, head = _HEAD.unpack_from(data, at)
                _check(length, head)
                end = at + 4 + length
                if end > size:
                    break
                start = at + 8
                try:
                    header = orjson.loads(data[start : start + head])
                except orjson.JSONDecodeError as error:
                    raise RuntimeFault("The guest broke the protocol: a header that is not JSON.") from error
                if type(header) is not dict:
                    raise RuntimeFault("The guest broke the protocol: a header that is not an object.")
                body = data[start + head : end]
                at = end
                yield cast(Header, header), body
        finally:
            rest += memoryview(data)[at:]

    def _complete(self) -> bool:
        """Whether what is kept completes a frame, so that a large one is copied once and not with each
        chunk."""
        if len(self._rest) < 8:
            return False
        length, head = _HEAD.unpack_from(self._rest)
        _check(length, head)
        return 4 + int(length) <= len(self._rest)


def _check(length: int, head: int) -> None:
    if length > LARGEST_FRAME or head > LARGEST_HEADER or head + 4 > length:
        raise RuntimeFault("The guest broke the protocol: a frame of impossible size.")
