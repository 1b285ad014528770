"""Frames survive any way of cutting the stream, and what is no frame is refused."""

from __future__ import annotations

import struct

import pytest

from flux.errors import RuntimeFault
from flux.runtime.frames import LARGEST_FRAME, Decoder, encode

FRAMES = [
    ({"t": "invoke", "i": 1}, b"{}"),
    ({"t": "ping", "k": 2}, b""),
    ({"t": "reply", "s": "é\x00"}, bytes(range(256))),
]


@pytest.mark.parametrize("step", [1, 2, 3, 7, 64, 10_000])
def test_frames_come_out_as_they_went_in_however_the_stream_is_cut(step: int) -> None:
    stream = b"".join(encode(header, body) for header, body in FRAMES)
    decoder = Decoder()
    found = [frame for at in range(0, len(stream), step) for frame in decoder.feed(stream[at : at + step])]
    assert found == FRAMES


@pytest.mark.parametrize(
    "stream",
    [
        struct.pack(">II", LARGEST_FRAME + 1, 2) + b"{}",
        struct.pack(">II", 6, 3) + b"{} ",
        struct.pack(">II", 7, 3) + b"[1]",
        struct.pack(">II", 7, 3) + b"{x}",
        struct.pack(">II", 4, 0),
    ],
    ids=["too large", "header beyond the frame", "not an object", "not JSON", "no header"],
)
def test_what_is_no_frame_is_refused(stream: bytes) -> None:
    with pytest.raises(RuntimeFault, match="broke the protocol"):
        list(Decoder().feed(stream))
