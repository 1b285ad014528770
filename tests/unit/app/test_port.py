"""Taking a port, and naming who has it."""

from __future__ import annotations

import os
import socket

import pytest

from flux.app.port import PortTaken, bind, describe_owner
from flux.errors import FluxError


def test_a_taken_port_names_its_owner_and_another_one() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(PortTaken) as refused:
            bind("127.0.0.1", port)
        assert f"pid {os.getpid()}" in refused.value.message
        assert refused.value.hint == f"Use another: --port {port + 1}"
        assert describe_owner(port) is not None
    assert describe_owner(port) is None


def test_a_free_port_is_taken_and_an_impossible_address_explained() -> None:
    with bind("127.0.0.1", 0) as sock:
        assert sock.getsockname()[1] > 0
    with pytest.raises(FluxError, match="Can't listen"):
        bind("203.0.113.7", 0)
    with pytest.raises(FluxError, match="is not an address"):
        bind("not an address", 0)
