"""Which headers carry credentials: told by their names. Used by redaction.

Case is ignored. A name carries a credential if it holds one of WITHIN, or has one of WORDS between its `-`
and `_`, unless it stands in EXCEPT. A project adds names and takes names out (`redact_headers`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import translate
from typing import Final

WITHIN: Final = (
    "token", "secret", "signature", "passw", "passphrase", "credential", "cookie", "session", "authoriz",
    "authent", "apikey", "secretkey", "accesskey", "privatekey", "csrf", "xsrf", "hmac", "bearer",
    "assertion",
)  # fmt: skip
"""A name that holds one of these carries a credential."""
WORDS: Final = (
    "auth",
    "key",
    "jwt",
    "sig",
    "sid",
    "pwd",
    "otp",
    "pin",
    "pass",
    "cred",
    "creds",
    "authn",
    "authz",
)
"""So does one with one of these as a whole word, or with an `auth` at a word's end (`xauth`)."""
EXCEPT: Final = frozenset(
    {
        "access-control-allow-credentials",
        "authentication-info",
        "idempotency-key",
        "x-idempotency-key",
        "proxy-authenticate",
        "sec-token-binding",
        "sec-websocket-key",
        "signature-input",
        "surrogate-key",
        "www-authenticate",
    }
)
"""Names that only look like it."""

_RULE = re.compile(
    rf"{'|'.join(WITHIN)}|(?:^|[-_. ])(?:{'|'.join(WORDS)})(?:$|[-_. ])|auth(?:$|[-_. ])", re.IGNORECASE
)
_COUNTS = re.compile(r"(?:x-)?ratelimit-|(?:x-)?rate-limit-", re.IGNORECASE)
_MOST = 4096


class HeaderNames:
    """The names of headers whose values are withheld.

    Args:
        more: names that are withheld besides, and with a `!` before them, names that are not; `*` stands for
            any characters. The last that fits decides.
    """

    def __init__(self, more: Iterable[str] = ()) -> None:
        self._more = [
            (not name.startswith("!"), re.compile(translate(name.removeprefix("!").strip().lower())))
            for name in more
            if name.strip()
        ]
        self._known: dict[str, bool] = {}

    def __contains__(self, name: str) -> bool:
        known = self._known.get(name)
        if known is None:
            if len(self._known) >= _MOST:
                self._known.clear()
            known = self._known[name] = self._decide(name.strip().lower())
        return known

    def may_stand_in(self, data: bytes) -> bool:
        """Whether a name that is withheld may stand in text of any kind."""
        lower = data.lower()
        return bool(self._more) or any(word.encode() in lower for word in (*WITHIN, *WORDS))

    def _decide(self, name: str) -> bool:
        for withheld, pattern in reversed(self._more):
            if pattern.match(name):
                return withheld
        return name not in EXCEPT and not _COUNTS.match(name) and _RULE.search(name) is not None
