"""The framed protocol between the host process and a guest process, over a socketpair that is the guest's
stdin and stdout.

A frame is `u32be length | u32be header length | header | body`: `length` counts all after itself; the
header is a JSON
object with a `t` member (the frame's type); the body is raw bytes (a request body, exact JSON), often empty.
docs/architecture.md lists the types. Both guests implement the same few lines.
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
    head = orjson.dumps(header)
    return b"".join((_HEAD.pack(4 + len(head) + len(body), len(head)), head, body))


class Decoder:
    """Turns a stream of bytes into frames. Not safe against use after it raised: the stream is then broken
    for good.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[Header, bytes]]:
        """Add `data`; yield each frame it completes.

        Raises:
            RuntimeFault: the bytes are not this protocol (a forged or broken frame).
        """
        buffer = self._buffer
        buffer += data
        at, size = 0, len(buffer)
        try:
            while size - at >= _HEAD.size:
                length, head = _HEAD.unpack_from(buffer, at)
                if length > LARGEST_FRAME or head > LARGEST_HEADER or head + 4 > length:
                    raise RuntimeFault("The guest broke the protocol: a frame of impossible size.")
                if size - at < 4 + length:
                    break
                start = at + _HEAD.size
                end = at + 4 + length
                try:
                    header = orjson.loads(memoryview(buffer)[start : start + head])
                except orjson.JSONDecodeError as error:
                    raise RuntimeFault("The guest broke the protocol: a header that is not JSON.") from error
                if not isinstance(header, dict):
                    raise RuntimeFault("The guest broke the protocol: a header that is not an object.")
                body = bytes(memoryview(buffer)[start + head : end])
                at = end
                yield cast(Header, header), body
        finally:
            del buffer[:at]
