"""Reading a spool that is torn, damaged, or written at this moment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flux.spool.frames import LARGEST, MAGIC_BYTES, frame, segment_path
from flux.spool.reader import PATIENCE, Damage, Record, SpoolReader


class Clock:
    """A clock that is moved by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def write(folder: Path, data: bytes, number: int = 1) -> None:
    segment_path(folder, number).write_bytes(data)


def read_all(folder: Path, *, final: bool = True, limit: int = 100) -> list[Record | Damage]:
    reader, found = SpoolReader(folder, final=final), []
    while batch := reader.read(limit):
        found += batch
    reader.close()
    return found


def test_a_torn_record_is_waited_for_while_the_writer_lives(tmp_path: Path) -> None:
    whole = frame(b"first") + frame(b"second")
    write(tmp_path, whole[:-3])
    reader = SpoolReader(tmp_path)
    assert [item.data for item in reader.read()] == [b"first"]
    assert reader.read() == []
    write(tmp_path, whole)
    assert [item.data for item in reader.read()] == [b"second"]
    assert reader.read() == []


def test_half_a_record_may_be_taken_back_while_it_is_looked_at(tmp_path: Path) -> None:
    write(tmp_path, b"")
    full_disk = "import sys; f = open(sys.argv[1], 'r+b', 0); half = bytes.fromhex(sys.argv[2])\n" + (
        "while True: f.seek(0); f.write(half); f.truncate(0)"
    )
    half = frame(b"x" * 4000)[:3000]
    writer = subprocess.Popen([sys.executable, "-c", full_disk, segment_path(tmp_path, 1), half.hex()])
    reader = SpoolReader(tmp_path)
    try:
        while reader.place == (0, 0):
            reader.read()
        for _ in range(20_000):
            assert reader.read() == []
    finally:
        writer.kill()
        writer.wait()
        reader.close()


@pytest.mark.parametrize("cut", [1, 5, 11, 14])
def test_a_torn_end_of_a_dead_writers_spool_is_given_as_damage(tmp_path: Path, cut: int) -> None:
    torn = frame(b"second")[:cut]
    write(tmp_path, frame(b"first") + torn)
    first, damage = read_all(tmp_path)
    assert first.data == b"first"
    assert isinstance(damage, Damage)
    assert damage.data == torn
    assert damage.reason == "an incomplete record"


def test_reading_goes_on_at_the_next_whole_record_after_damage(tmp_path: Path) -> None:
    bad = bytearray(frame(b"two"))
    bad[-1] ^= 1
    write(tmp_path, frame(b"one") + bytes(bad) + b"garbage" + MAGIC_BYTES + b"more" + frame(b"three"))
    one, damage, three = read_all(tmp_path)
    assert (one.data, three.data) == (b"one", b"three")
    assert isinstance(damage, Damage)
    assert damage.data == bytes(bad) + b"garbage" + MAGIC_BYTES + b"more"


def test_an_impossible_length_is_damage_and_not_waited_for(tmp_path: Path) -> None:
    forged = MAGIC_BYTES + (LARGEST + 1).to_bytes(4, "big") + b"\0\0\0\0"
    write(tmp_path, forged + frame(b"one"))
    damage, one = read_all(tmp_path)
    assert isinstance(damage, Damage)
    assert one.data == b"one"


def test_what_looks_wrong_in_a_live_spool_is_given_time_to_become_right(tmp_path: Path) -> None:
    clock = Clock()
    bad = bytearray(frame(b"one"))
    bad[-1] ^= 1
    write(tmp_path, bytes(bad) + frame(b"two"))
    reader = SpoolReader(tmp_path, ticks=clock)
    assert reader.read() == []
    assert reader.read() == []
    write(tmp_path, frame(b"one") + frame(b"two"))
    assert [item.data for item in reader.read()] == [b"one", b"two"]


def test_what_stays_wrong_in_a_live_spool_is_stepped_over(tmp_path: Path) -> None:
    clock = Clock()
    claims_too_much = MAGIC_BYTES + (5000).to_bytes(4, "big") + b"\0\0\0\0"
    write(tmp_path, claims_too_much + frame(b"two"))
    reader = SpoolReader(tmp_path, ticks=clock)
    assert reader.read() == []
    clock.now += PATIENCE
    (damage,) = reader.read()
    assert isinstance(damage, Damage)
    assert [item.data for item in reader.read()] == [b"two"]


def test_a_record_longer_than_a_read_is_read_whole(tmp_path: Path) -> None:
    write(tmp_path, frame(b"a") + frame(b"b" * 5000) + frame(b"c"))
    assert [len(item.data) for item in read_all(tmp_path, limit=64)] == [1, 5000, 1]


def test_missing_segments_are_passed_over(tmp_path: Path) -> None:
    for number in (1, 2, 5):
        write(tmp_path, frame(str(number).encode()), number)
    os.unlink(segment_path(tmp_path, 1))
    found = read_all(tmp_path)
    assert [(item.place, item.data) for item in found] == [((2, 0), b"2"), ((5, 0), b"5")]


def test_a_record_can_be_read_raw_again_by_its_place(tmp_path: Path) -> None:
    write(tmp_path, frame(b"one") + frame(b"two"))
    _, two = read_all(tmp_path)
    reader = SpoolReader(tmp_path)
    assert reader.raw(two.place, two.end) == frame(b"two")
    assert reader.raw((9, 0), 10) == b""
