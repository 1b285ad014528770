"""Secrets by name, from the project's `.env` and the environment. Live asks; one per process.

All of them are told to Redaction before the first request arrives, so that they are withheld wherever they
turn up, also where nobody has read them yet. A secret is recorded as its name and version.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import unquote

import orjson

from flux.record import arguments
from flux.record.call import CallError, HostCall, Outcome
from flux.record.ops import asked
from flux.recorder.redaction import Redaction

_OWN = re.compile(r"(FLUX_|PG[A-Z]+$|DATABASE_URL$)")
_SETTING = re.compile(r"(FLUX|OTEL|PG|LC)_?[A-Z]")
_OWN_SECRET = re.compile(r"(KEY|SECRET|PASSWORD|TOKEN)S?$")
_PLAIN = re.compile(
    r"(true|false|enabled|disabled|production|development|staging|localhost|https?://[^/@?#\s]+/?)",
    re.IGNORECASE,
)
"""Values that are no secrets unless they are read as such: they would be found everywhere."""
_PASSWORD = re.compile(r"://[^/?#\s:@]*:([^/?#\s@]+)@")


class Secrets:
    """The secrets that functions may read.

    Args:
        redaction: is told every secret at once, and the credentials among Flux's own settings.
        env_file: name -> value: what stands in `.env`.
        environment: name -> value: the process's environment with `.env` beneath it.
        listed: names that may be read from the environment too.
        shown: names that `ctx.env` shows: no secrets.
        master_key: keys the versions; without one the version is `env`.
    """

    def __init__(
        self,
        redaction: Redaction,
        env_file: Mapping[str, str],
        environment: Mapping[str, str] | None = None,
        *,
        listed: Iterable[str] = (),
        shown: Iterable[str] = (),
        master_key: bytes | None = None,
    ) -> None:
        self._redaction = redaction
        self._master_key = master_key
        environment = {} if environment is None else environment
        self._values = {
            **{name: environment[name] for name in listed if name in environment},
            **env_file,
        }
        self._values = {name: value for name, value in self._values.items() if not _OWN.match(name)}
        shown = set(shown)
        for name, value in self._values.items():
            if name not in shown and not _SETTING.match(name) and not _PLAIN.fullmatch(value):
                self._tell(name, value)
        for name, value in environment.items():
            for credential in _credentials(name, value):
                self._tell(name, credential)

    def get(self, call: HostCall) -> Outcome:
        """Answer `secrets.get`: `{value}`, which the record keeps as name, version and whether it was found.

        Raises:
            InvalidArguments: see `ops.asked`.
        """
        wanted = asked(call, arguments.Secret)
        value = self._values.get(wanted.key)
        if value is None and wanted.fallback is None:
            return Outcome(error=CallError("secret_not_found", _missing(wanted.key), {"name": wanted.key}))
        if value is None:
            value = wanted.fallback
        else:
            self._tell(wanted.key, value)
        return Outcome(result=orjson.dumps({"value": value}))

    def version(self, name: str, value: str) -> str:
        """Tells two values of a secret apart without giving either away: 12 hex digits of an HMAC-SHA256."""
        if self._master_key is None:
            return "env"
        message = f"{name}\0{value}".encode()
        return hmac.new(self._master_key, message, hashlib.sha256).hexdigest()[:12]

    def _tell(self, name: str, value: str) -> None:
        self._redaction.add_secret(name, self.version(name, value), value)


def _credentials(name: str, value: str) -> Iterator[str]:
    """What of Flux's own settings, and of OpenTelemetry's, is a credential."""
    if not _OWN.match(name) and not _SETTING.match(name):
        return
    if _OWN_SECRET.search(name):
        yield value
    if (found := _PASSWORD.search(value)) is not None:
        yield unquote(found[1])
    if name.startswith("OTEL_") and name.endswith("_HEADERS"):
        for pair in value.split(","):
            yield unquote(pair.partition("=")[2].strip())


def _missing(name: str) -> str:
    if _OWN.match(name):
        return (
            f"`{name}` belongs to Flux itself and is not handed to functions. Store yours under another name."
        )
    return (
        f"No secret is called `{name}`. Put `{name}=...` into the project's .env, list it in flux.toml's "
        "`secrets` if it stands in the environment, or give a fallback."
    )
