"""Frames on the protocol's descriptor: `u32be length | u32be header length | header JSON | body`. Used by
main and invocations.
"""

import json
import os
import socket
import struct
from collections.abc import Callable

_HEAD = struct.Struct(">II")
_CHUNK = 1 << 18
LARGEST_BODY = 200 * 2**20
_encode = json.JSONEncoder(separators=(",", ":")).encode

Frame = tuple[dict, bytes]


class Wire:
    """Both directions of the socket. Writing waits; the host always reads."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.wake: Callable[[], None] = self.flush
        """Called when the first frame since the last `flush` waits: whoever sets it sees to it that `flush`
        is called.
        """
        self._buffer = bytearray()
        self._frames: list[bytes] = []
        self._size = 0
        self._write = os.write
        self._receive = socket.socket(fileno=descriptor).recv

    def send(self, header: dict, body: bytes = b"") -> None:
        """Have one frame written with the next `flush`: waking the host costs more than all else.

        Raises:
            ValueError: the body is larger than a frame may be; nothing is sent.
        """
        if len(body) > LARGEST_BODY:
            raise ValueError(
                f"{len(body) / 2**20:.0f} MiB of JSON or body; {LARGEST_BODY // 2**20} can be sent at once."
            )
        head = _encode(header).encode()
        frames = self._frames
        frames += (_HEAD.pack(4 + len(head) + len(body), len(head)), head, body)
        self._size += len(body)
        if self._size > _CHUNK:
            self.flush()
        elif len(frames) == 3:
            self.wake()

    def flush(self) -> None:
        """Write what waits, whole."""
        if not self._frames:
            return
        data = b"".join(self._frames)
        self._frames.clear()
        self._size = 0
        written = self._write(self.descriptor, data)
        if written < len(data):
            rest = memoryview(data)[written:]
            while rest:
                rest = rest[self._write(self.descriptor, rest) :]

    def receive(self, *, wait: bool = False) -> list[Frame]:
        """The frames that one read completes; none where nothing is there and `wait` is False.

        Raises:
            EOFError: the host has gone.
        """
        try:
            data = self._receive(_CHUNK, 0 if wait else socket.MSG_DONTWAIT)
        except BlockingIOError:
            return []
        if not data:
            raise EOFError
        buffer = self._buffer
        buffer += data
        frames: list[Frame] = []
        at, size = 0, len(buffer)
        while size - at >= 8:
            length, head = _HEAD.unpack_from(buffer, at)
            end = at + 4 + length
            if size < end:
                break
            start = at + 8
            frames.append((json.loads(buffer[start : start + head]), bytes(buffer[start + head : end])))
            at = end
        del buffer[:at]
        return frames
