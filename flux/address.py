"""Where a server is: its URLs, and which names are this machine's own.

The one place that puts an address into a URL: an IPv6 address stands in brackets there.
"""

from __future__ import annotations

import ipaddress
from typing import NamedTuple

_ANY = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}


class Authority(NamedTuple):
    """A Host header, or what stands for it in a URL: a name without brackets, in lower case, and the port."""

    name: str
    port: int | None


def base_url(host: str, port: int) -> str:
    """`http://127.0.0.1:4000`: where a server listens; one that listens everywhere is called by loopback."""
    name = _ANY.get(host, host)
    if ":" in name:
        name = f"[{name.replace('%', '%25')}]"
    return f"http://{name}:{port}"


def authority(text: str) -> Authority:
    """Read a Host header. What is no port is part of the name: nothing is refused here."""
    name, colon, port = text.rpartition(":")
    if colon and port.isascii() and port.isdigit() and len(port) <= 5 and ("]" in name or ":" not in name):
        number: int | None = int(port)
    elif colon and not port and not text.endswith("]"):
        number = None
    else:
        name, number = text, None
    return Authority(name.removeprefix("[").removesuffix("]").removesuffix(".").lower(), number)


def is_local(name: str) -> bool:
    """Whether a host name is this machine's own: `localhost`, a name below it, or a loopback address."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
