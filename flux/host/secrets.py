"""Secrets by name, from the project's `.env` and the environment. Live asks; one per process.

A secret is recorded as its name and version; its value is told to Redaction before the function gets it, so
that it is withheld wherever it turns up.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping

import orjson

from flux.record import arguments
from flux.record.call import CallError, HostCall, Outcome
from flux.record.ops import asked
from flux.recorder.redaction import Redaction

_OWN = re.compile(r"(FLUX_|PG[A-Z]+$|DATABASE_URL$)")


class Secrets:
    """The secrets that functions may read.

    Args:
        environment: name -> value: the process's environment with `.env` beneath it.
        redaction: is told every value that is read.
        master_key: keys the versions; without one the version is `env`.
    """

    def __init__(
        self, environment: Mapping[str, str], redaction: Redaction, master_key: bytes | None = None
    ) -> None:
        self._environment = environment
        self._redaction = redaction
        self._master_key = master_key

    def get(self, call: HostCall) -> Outcome:
        """Answer `secrets.get`: `{value}`, which the record keeps as name, version and whether it was found.

        Raises:
            InvalidArguments: see `ops.asked`.
        """
        wanted = asked(call, arguments.Secret)
        own = _OWN.match(wanted.key) is not None
        value = None if own else self._environment.get(wanted.key)
        if value is None and wanted.fallback is None:
            return Outcome(
                error=CallError("secret_not_found", _missing(wanted.key, own), {"name": wanted.key})
            )
        if value is None:
            value = wanted.fallback
        else:
            self._redaction.add_secret(wanted.key, self.version(wanted.key, value), value)
        return Outcome(result=orjson.dumps({"value": value}))

    def version(self, name: str, value: str) -> str:
        """Tells two values of a secret apart without giving either away: 12 hex digits of an HMAC-SHA256."""
        if self._master_key is None:
            return "env"
        message = f"{name}\0{value}".encode()
        return hmac.new(self._master_key, message, hashlib.sha256).hexdigest()[:12]


def _missing(name: str, own: bool) -> str:
    if own:
        return (
            f"`{name}` belongs to Flux itself and is not handed to functions. Store yours under another name."
        )
    return f"No secret is called `{name}`. Put `{name}=...` into the project's .env, or give a fallback."
