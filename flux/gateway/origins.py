"""Who may ask: what a browser says of where a request comes from, judged before anything runs.

A web page can send requests to a server on the machine of whoever looks at it. It sends them to a loopback
address: the browser then says Origin or Sec-Fetch-Site. Or it sends them to a name of its own that it lets
point there (DNS rebinding): the Host header has that name. Both are refused. What is no browser sends none of
these headers, and is let in. A page of another site may still lead its user here (a link, a login that comes
back): that is a GET which the browser calls a navigation.

Asked by Admission, for functions and for what lies under `/_flux/`.
"""

from __future__ import annotations

from collections.abc import Mapping

from flux.address import Authority, authority, is_local
from flux.config import Config
from flux.record.events import Failure

OPEN = frozenset({"/_flux/health", "/_flux/ready"})
"""Paths that anybody may ask for under any name: they say nothing of anybody's."""
_MOST_KNOWN = 1024


class Origins:
    """Judges Host, Origin and Sec-Fetch-Site.

    Args:
        config: `host`: where the server listens; `allowed_hosts`: further names that it answers to.
    """

    def __init__(self, config: Config) -> None:
        hosts = [host.lower() for host in config.allowed_hosts]
        self._loopback = is_local(authority(config.host).name) or is_local(config.host)
        self._any = "*" in hosts or not (self._loopback or hosts)
        own = {config.host.lower().strip("[]")}
        self._names = own | {host for host in hosts if not host.startswith((".", "*."))}
        self._suffixes = tuple(host.removeprefix("*") for host in hosts if host.startswith((".", "*.")))
        self._known: dict[str, tuple[Authority, Failure | None]] = {}

    def host(self, text: str) -> tuple[Authority, Failure | None]:
        """A Host header, read, and why it is refused."""
        found = self._known.get(text)
        if found is None:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            read = authority(text)
            found = self._known[text] = read, self._stranger(read.name, text)
        return found

    def refusal(self, method: str, path: str, named: Mapping[str, str]) -> Failure | None:
        """Why a request may not be answered, or None.

        Args:
            method, path: its own. named: its headers, names in lower case.
        """
        host = named.get("host", "")
        origin, site = named.get("origin"), named.get("sec-fetch-site")
        read, refused = self.host(host)
        if path in OPEN:
            return None
        if refused is not None or (origin is None and site is None) or not is_local(read.name):
            return refused
        if origin is not None and origin.partition("://")[2].lower() != host.lower():
            message = f"Origin {origin[:200]}: pages of others may not call a server on this machine."
            return Failure(type="ForbiddenOrigin", message=message)
        if site == "cross-site" and not _navigates(method, named):
            message = "Sec-Fetch-Site cross-site: pages of others may not call a server on this machine."
            return Failure(type="ForbiddenSite", message=message)
        return None

    def unremarkable(self, named: Mapping[str, str]) -> bool:
        """Whether `refusal` would have nothing to say of a request, by its headers alone."""
        if "origin" in named or "sec-fetch-site" in named:
            return False
        return self.host(named.get("host", ""))[1] is None

    def _stranger(self, name: str, text: str) -> Failure | None:
        if self._any or not name or (self._loopback and is_local(name)):
            return None
        if name in self._names or name.endswith(self._suffixes):
            return None
        message = (
            f"Host {text[:200]} is no name of this server. Others than this machine's own stand in "
            "allowed_hosts (flux.toml)."
        )
        return Failure(type="ForbiddenHost", message=message)


def _navigates(method: str, named: Mapping[str, str]) -> bool:
    """Whether a browser's user goes there, and no page reads what comes."""
    return (
        method in ("GET", "HEAD")
        and named.get("sec-fetch-mode") == "navigate"
        and named.get("sec-fetch-dest") == "document"
    )
