"""The socket that a guest fetches its frames from: one guest, one connection, nothing left behind."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from flux.errors import RuntimeFault
from flux.runtime.door import Door


@pytest.fixture(name="door")
def _door() -> Iterator[Door]:
    door = Door()
    yield door
    door.close()


def connect(door: Door) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.connect(door.path)
    return client


def test_who_is_expected_is_let_in(door: Door) -> None:
    with connect(door) as client, door.accept(os.getpid()) as made:
        made.sendall(b"frame")
        assert client.recv(10) == b"frame"


def test_another_process_is_not(door: Door) -> None:
    with connect(door) as client:
        with pytest.raises(RuntimeFault, match="has not connected"):
            door.accept(os.getpid() + 1)
        assert client.recv(10) == b""


def test_who_has_not_come_is_not_waited_for(door: Door) -> None:
    with pytest.raises(RuntimeFault, match="has not connected"):
        door.accept(os.getpid())


def test_a_closed_door_leaves_nothing(door: Door) -> None:
    folder = Path(door.path).parent
    assert folder.stat().st_mode & 0o077 == 0
    door.close()
    door.close()
    assert not folder.exists()


def test_a_long_or_odd_temporary_folder_is_avoided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a, b"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    door = Door()
    try:
        assert "," not in door.path
    finally:
        door.close()
