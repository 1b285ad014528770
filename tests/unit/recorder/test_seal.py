"""Sealed values open under the right key only."""

from __future__ import annotations

import os

import pytest

from flux.recorder.seal import Sealer, SealError

KEY = bytes(range(32))


def test_what_is_sealed_opens_again_in_another_process() -> None:
    blob = Sealer(KEY).seal({"seed": b"\0\xff", "headers": [["a", "b"]], "n": 5})
    assert blob is not None
    assert b"headers" not in blob
    assert Sealer(KEY).open(blob) == {"seed": b"\0\xff", "headers": [["a", "b"]], "n": 5}


def test_another_key_is_named_as_the_reason() -> None:
    blob = Sealer(KEY).seal({"a": 1})
    assert blob is not None
    with pytest.raises(SealError, match="under another master key"):
        Sealer(b"k" * 32).open(blob)
    with pytest.raises(SealError, match="without a master key"):
        Sealer(None).open(blob)


@pytest.mark.parametrize("at", [0, 2, 10, 25, 30, -1])
def test_a_changed_byte_anywhere_is_noticed(at: int) -> None:
    blob = bytearray(Sealer(KEY).seal({"a": 1}) or b"")
    blob[at] ^= 1
    with pytest.raises(SealError):
        Sealer(KEY).open(bytes(blob))


def test_no_two_seals_share_key_and_nonce() -> None:
    one, other = Sealer(KEY), Sealer(KEY)
    blobs = [sealer.seal({"same": True}) or b"" for sealer in (one, one, other)]
    assert len({blob[5:29] for blob in blobs}) == 3
    assert len(set(blobs)) == 3


def test_a_forked_child_seals_under_a_key_of_its_own() -> None:
    sealer = Sealer(KEY)
    ours = sealer.seal({"a": 1}) or b""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, sealer.seal({"a": 1}) or b"none")
        os._exit(0)
    os.waitpid(child, 0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        theirs = pipe.read()
    assert theirs[5:21] != ours[5:21]
    assert sealer.open(theirs) == {"a": 1}


def test_without_a_master_key_nothing_is_sealed() -> None:
    assert Sealer(None).seal({"a": 1}) is None
    assert not Sealer(None).able
