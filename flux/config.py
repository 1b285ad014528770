"""The project's configuration: flux.toml, then the environment (`FLUX_*`, `DATABASE_URL`), as one frozen
object.

Read once, by the CLI, and handed down. A key in flux.toml stands in the environment under its upper-case
name behind `FLUX_` (`timeout_ms` is `FLUX_TIMEOUT_MS`); lists are comma-separated there.
"""

from __future__ import annotations

import base64
import binascii
import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from flux.errors import ConfigError

Durability = Literal["spool", "fsync", "postgres"]
RecordLevel = Literal["all", "errors", "none"]

_SIZE = re.compile(r"(\d+)\s*(B|KB|MB|GB|KiB|MiB|GiB)?", re.IGNORECASE)
_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_CHOICES: dict[str, tuple[str, ...]] = {
    "durability": ("spool", "fsync", "postgres"),
    "record": ("all", "errors", "none"),
    "pooler": ("session", "transaction"),
}
_SIZES = {"body_limit", "spool_limit", "otlp_limit"}


@dataclass(frozen=True)
class Config:
    """What a project has set. Every field but the first five is a key of flux.toml."""

    root: Path
    """The project folder: the one that holds flux.toml or functions/."""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The process's environment with `.env` beneath it: what `env` reads."""
    env_file: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What stands in `.env`: secrets, but for the names in `env`."""
    dev: bool = False
    """True under `flux dev`: stacks in answers, `GET /`, reload."""
    master_key: bytes | None = field(default=None, repr=False)
    """32 bytes, from FLUX_MASTER_KEY (64 hex digits or base64), or None where it isn't set."""

    name: str = ""
    """The project's name (service.name in spans); the folder's name by default."""
    host: str = "127.0.0.1"
    port: int = 4000
    allowed_hosts: tuple[str, ...] = ()
    """Host names that are answered besides this machine's own: `api.example.com`, `.example.com` (all below
    it), `*` (any). On another address than loopback any is, where none is given.
    """
    timeout_ms: int = 30_000
    """A function's deadline where flux.json names none."""
    body_limit: int = 64 * 2**20
    """Largest request body, bytes; above it 413."""
    rejection_records: int = 1000
    """Rejected requests of one second that are recorded one by one; further ones are recorded together."""
    max_connections: int = 4096
    """Connections that clients may hold at once; the limit of open files may allow fewer."""
    keep_alive_ms: int = 75_000
    """How long an idle connection is kept; 0 for ever."""
    read_timeout_ms: int = 20_000
    """How long a request's head may take, and its body without coming on; above it 408; 0 for ever."""
    write_timeout_ms: int = 20_000
    """How long a client may take an answer without coming on; then the connection is cut; 0 for ever."""
    stop_timeout_ms: int = 60_000
    """How long a server that was told to stop may take; half of that for requests under way. Then it ends."""
    record: RecordLevel = "all"
    durability: Durability = "spool"
    confirm_timeout_ms: int = 10_000
    """With `durability = "postgres"`: how long an answer waits for its record's commit; then it is 503."""
    spool_limit: int = 2 * 2**30
    """Most bytes of undrained records kept on disk; above it 503."""
    otlp_limit: int = 512 * 2**20
    """Most bytes kept on disk for a collector that is away; above it the oldest spans are not sent."""
    database_url: str | None = field(default=None, repr=False)
    """An outside Postgres (14 or later); None means the embedded one under .flux/."""
    pooler: Literal["session", "transaction"] = "session"
    pool_size: int = 16
    """Connections that functions may hold in the user's database."""
    concurrency: int = 1024
    """Invocations in flight in one guest process before a request is answered 503."""
    memory_mb: int = 1024
    """MiB that one guest process may allocate beyond what it booted with; 0 sets no limit."""
    job_concurrency: int = 16
    """Jobs that one process runs at once."""
    env: tuple[str, ...] = ()
    """Names of environment variables that functions may read as ctx.env."""
    redact: tuple[str, ...] = ()
    """JSON paths in inputs, outputs and call payloads to withhold: `password`, `card.number`, `*.token`."""
    redact_columns: tuple[str, ...] = ()
    """`table.column` whose values are shown as withheld."""
    redact_headers: tuple[str, ...] = ()
    """Headers to withhold besides those whose name says that they carry a credential (`x-acme-*`), and with a
    `!` before it, a name not to withhold.
    """
    secrets: tuple[str, ...] = ()
    """Names of environment variables that secrets.get may read; it reads all of `.env` anyhow."""

    @property
    def guest_env(self) -> dict[str, str]:
        """What functions see as ctx.env."""
        return {name: self.environment[name] for name in self.env if name in self.environment}

    @property
    def flux_dir(self) -> Path:
        """`.flux/`: spools, embedded Postgres, keys. Never committed."""
        return self.root / ".flux"

    @property
    def functions_dir(self) -> Path:
        """Where the functions live, one folder each."""
        return self.root / "functions"

    @property
    def spool_dir(self) -> Path:
        """One folder per spool (one per serving process)."""
        return self.flux_dir / "spool"


_NO_KEYS = {"root", "environment", "env_file", "dev", "master_key"}
_KEYS = {f.name: f for f in fields(Config) if f.name not in _NO_KEYS}


def find_root(start: Path) -> Path | None:
    """The nearest folder at or above `start` that holds flux.toml, else one with functions/ and .flux/;
    None if none does.
    """
    for folder in (start, *start.parents):
        if (folder / "flux.toml").is_file():
            return folder
    for folder in (start, *start.parents):
        if (folder / ".flux").is_dir() and (folder / "functions").is_dir():
            return folder
    return None


def load(root: Path, environment: Mapping[str, str] | None = None, **overrides: Any) -> Config:
    """Read a project's configuration.

    Args:
        root: the project folder.
        environment: os.environ by default; `.env` in the project lies beneath it.
        overrides: keys given on the command line; None means not given.

    Raises:
        ConfigError: an unknown key, a value of the wrong kind, or a file that is not TOML.
    """
    root = root.resolve()
    env_file = read_env_file(root / ".env")
    env = {**env_file, **(os.environ if environment is None else environment)}
    values: dict[str, Any] = {}
    path = root / "flux.toml"
    if path.is_file():
        try:
            document = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: {error}", "See docs/configuration.md for its keys.") from error
        for key, value in document.items():
            if key not in _KEYS:
                close = difflib.get_close_matches(key, _KEYS, n=1)
                raise ConfigError(
                    f"{path}: unknown key `{key}`.",
                    f"Did you mean `{close[0]}`?" if close else f"Known keys: {', '.join(sorted(_KEYS))}.",
                )
            values[key] = _typed(key, value, str(path))
    for key in _KEYS:
        name = (
            "DATABASE_URL"
            if key == "database_url" and "FLUX_DATABASE_URL" not in env
            else f"FLUX_{key.upper()}"
        )
        if env.get(name):
            values[key] = _typed(key, env[name], f"environment variable {name}")
    values.update({key: value for key, value in overrides.items() if value is not None})
    values.setdefault("name", root.name)
    values.setdefault("master_key", _master_key(env.get("FLUX_MASTER_KEY")))
    return Config(root=root, environment=env, env_file=env_file, **values)


def read_env_file(path: Path) -> dict[str, str]:
    """Parse a `.env` file: `NAME=value` lines, `#` comments, optional quotes and `export`. Between double
    quotes `\\n`, `\\"` and `\\\\` are a line break, a quote and a backslash. Missing file: {}.
    """
    if not path.is_file():
        return {}
    found: dict[str, str] = {}
    for number, raw in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.removeprefix("export ").partition("=")
        name, value = name.strip(), value.strip()
        if not equals or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise ConfigError(
                f"{path}:{number}: this is no `NAME=value`.", "Put quotes around values of several lines."
            )
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
            quoted = value[0] == '"'
            value = value[1:-1]
            if quoted:
                value = re.sub(r"\\([n\"\\])", lambda found: "\n" if found[1] == "n" else found[1], value)
        else:
            value = re.split(r"\s+#", value, maxsplit=1)[0]
        found[name] = value
    return found


def parse_size(text: str | int, where: str) -> int:
    """Bytes from `1048576`, `"64MiB"` or `"10MB"`."""
    match = _SIZE.fullmatch(str(text).strip())
    if match is None:
        raise ConfigError(f"{where}: `{text}` is not a size.", 'Write bytes, or for example "64MiB".')
    return int(match[1]) * _UNITS[(match[2] or "").lower()]


def _typed(key: str, value: Any, where: str) -> Any:
    where = f"{where}: `{key}`"
    if key in _SIZES:
        return parse_size(value, where)
    if key in _CHOICES:
        if value not in _CHOICES[key]:
            raise ConfigError(f"{where} must be one of {', '.join(_CHOICES[key])}, not `{value}`.")
        return value
    default = _KEYS[key].default
    if isinstance(default, tuple):
        items = (
            [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
        )
        if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
            raise ConfigError(f"{where} must be a list of strings.")
        return tuple(items)
    if isinstance(default, int):
        try:
            number = int(value)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{where} must be a whole number, not `{value}`.") from error
        if number < 0 or isinstance(value, bool):
            raise ConfigError(f"{where} must be a whole number of 0 or more, not `{value}`.")
        return number
    if default is not MISSING and not isinstance(value, str):
        raise ConfigError(f"{where} must be a string, not `{value}`.")
    return value


def _master_key(text: str | None) -> bytes | None:
    if not text:
        return None
    try:
        key = (
            bytes.fromhex(text)
            if re.fullmatch(r"[0-9a-fA-F]{64}", text)
            else base64.b64decode(text, validate=True)
        )
    except binascii.Error as error:
        raise ConfigError(
            "FLUX_MASTER_KEY is neither hex nor base64.", "Make one with: openssl rand -hex 32"
        ) from error
    if len(key) != 32:
        raise ConfigError(
            "FLUX_MASTER_KEY must be 32 bytes (64 hex digits).", "Make one with: openssl rand -hex 32"
        )
    return key
