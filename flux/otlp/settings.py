"""Where spans are to be sent, from the standard `OTEL_*` variables. Pure: asked by the server at its start,
and by the process that sends.

They mean what the OpenTelemetry specification says, which is not always what its Python SDK does: timeouts
are milliseconds, the default protocol is http/protobuf. A value that can't be used is named, and stops
nothing but the export.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple
from urllib.parse import unquote, urlsplit

from flux.otlp import tls
from flux.otlp.limits import Limits
from flux.otlp.sampling import ARGUMENT, SAMPLER, Sampler, sampler

Protocol = Literal["grpc", "http/protobuf"]

DISABLED, EXPORTER = "OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER"
BATCH, DELAY = "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "OTEL_BSP_SCHEDULE_DELAY"
SERVICE, RESOURCE = "OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"
OTLP = "OTEL_EXPORTER_OTLP_"

_DEFAULTS: dict[Protocol, str] = {"grpc": "http://localhost:4317", "http/protobuf": "http://localhost:4318"}
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class Problem(NamedTuple):
    """A variable that can't be used as it is, and what is done instead."""

    message: str
    hint: str | None = None


@dataclass(frozen=True)
class Settings:
    """A collector, and how to talk to it.

    Attributes:
        endpoint: the URL as it is called; for http/protobuf with the signal's path, for grpc `host:port`.
        insecure: grpc without TLS.
        headers: sent along, names in lower case. Credentials, mostly: never printed.
        timeout: seconds for one export, its retries included.
        gzip: whether requests are compressed.
        certificate: file with the CA to trust; client_key, client_certificate: files for mutual TLS.
        sampler: which spans are sent. limits: how much of one.
        batch: most spans in one request. delay: seconds that spans may wait for others.
    """

    protocol: Protocol
    endpoint: str
    insecure: bool = False
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout: float = 10.0
    gzip: bool = False
    certificate: str | None = None
    client_key: str | None = None
    client_certificate: str | None = None
    sampler: Sampler = field(default_factory=Sampler)
    limits: Limits = field(default_factory=Limits)
    batch: int = 512
    delay: float = 1.0


class _Unusable(Exception):
    """Without this value nothing can be sent."""


def settings(environment: Mapping[str, str]) -> tuple[Settings | None, list[Problem]]:
    """What the environment asks for: None where spans are sent nowhere; and the variables it got wrong."""
    reader = _Variables(environment)
    try:
        return _settings(reader), reader.problems
    except _Unusable:
        return None, reader.problems


def resource_attributes(environment: Mapping[str, str]) -> tuple[dict[str, str], list[Problem]]:
    """OTEL_RESOURCE_ATTRIBUTES, with OTEL_SERVICE_NAME over it. Broken, the former is left out as a whole."""
    problems: list[Problem] = []
    found: dict[str, str] = {}
    for item in filter(str.strip, environment.get(RESOURCE, "").split(",")):
        key, equals, value = item.partition("=")
        if not equals or not key.strip():
            problems.append(
                Problem(f"{RESOURCE} is not used: `{item.strip()}` is not key=value.", "Write a=b,c=d.")
            )
            found.clear()
            break
        found[unquote(key.strip())] = unquote(value.strip())
    if service := environment.get(SERVICE, "").strip():
        found["service.name"] = service
    return found, problems


def _settings(reader: _Variables) -> Settings | None:
    disabled = reader.flag(DISABLED)
    wanted = _wanted(reader)
    if disabled or not wanted:
        return None
    protocol = _protocol(reader)
    endpoint, insecure = _endpoint(reader, protocol)
    compression = reader.choice("COMPRESSION", ("gzip", "none"), "none")
    client_certificate, client_key = _identity(reader)
    return Settings(
        protocol,
        endpoint,
        insecure,
        headers=_headers(reader),
        timeout=_timeout(reader),
        gzip=compression == "gzip",
        certificate=reader.file("CERTIFICATE", tls.unusable_authorities),
        client_key=client_key,
        client_certificate=client_certificate,
        sampler=_sampler(reader),
        limits=_limits(reader),
        batch=reader.number(BATCH, 512, least=1),
        delay=reader.number(DELAY, 1000, least=1) / 1000,
    )


def _wanted(reader: _Variables) -> bool:
    value = reader.get(EXPORTER)
    if value is None:
        return reader.signal("ENDPOINT")[1] is not None
    names = [name.strip() for name in value.split(",") if name.strip()]
    for name in names:
        if name not in ("otlp", "none"):
            reader.warn(EXPORTER, name, "Flux sends to `otlp` or `none`", "The record is in Postgres anyway.")
    return "otlp" in names


def _protocol(reader: _Variables) -> Protocol:
    value = reader.choice("PROTOCOL", ("grpc", "http/protobuf"), "http/protobuf")
    return "grpc" if value == "grpc" else "http/protobuf"


def _endpoint(reader: _Variables, protocol: Protocol) -> tuple[str, bool]:
    name, given = reader.signal("ENDPOINT")
    value = given or _DEFAULTS[protocol]
    insecure = reader.flag(reader.signal("INSECURE")[0])
    try:
        parts = urlsplit(value if "://" in value or protocol != "grpc" else f"//{value}")
        port = parts.port
    except ValueError:
        raise reader.unusable(name, value, "it is no URL") from None
    if parts.scheme not in (("http", "https", "") if protocol == "grpc" else ("http", "https")):
        raise reader.unusable(name, value, f"{protocol} needs http:// or https://")
    if not parts.hostname:
        raise reader.unusable(name, value, "it names no host")
    if protocol == "grpc":
        if port == 4318:
            reader.note(f"{name} has port 4318, which speaks HTTP.", f"For it: {OTLP}PROTOCOL=http/protobuf")
        return parts.netloc.rpartition("@")[2], parts.scheme == "http" or (not parts.scheme and insecure)
    if port == 4317:
        reader.note(f"{name} has port 4317, which speaks gRPC.", f"For it: {OTLP}PROTOCOL=grpc")
    if name == f"{OTLP}TRACES_ENDPOINT":
        return value if parts.path else parts._replace(path="/").geturl(), False
    return parts._replace(path=parts.path.removesuffix("/") + "/v1/traces").geturl(), False


def _identity(reader: _Variables) -> tuple[str | None, str | None]:
    """The client's certificate and its key: two files, or one that holds both."""
    key = reader.file("CLIENT_KEY")
    certificate = reader.file("CLIENT_CERTIFICATE", lambda path: tls.unusable_identity(path, key))
    if certificate is None and key is not None:
        name, _ = reader.signal("CLIENT_KEY")
        raise reader.unusable(name, key, f"there is no {OTLP}CLIENT_CERTIFICATE with it")
    return certificate, key or certificate


def _headers(reader: _Variables) -> dict[str, str]:
    name, value = reader.signal("HEADERS")
    found: dict[str, str] = {}
    for item in filter(str.strip, (value or "").split(",")):
        key, equals, text = item.partition("=")
        key, text = unquote(key.strip()).lower(), unquote(text.strip())
        if not equals or not _HEADER_NAME.fullmatch(key) or not text.isprintable() or not text.isascii():
            # A header may be a credential: it is not repeated here.
            reader.note(f"{name}: a part of it is no header and is left out.", "Write name=value,name=value.")
            continue
        found[key] = text
    return found


def _timeout(reader: _Variables) -> float:
    name, _ = reader.signal("TIMEOUT")
    milliseconds = reader.number(name, 10_000, least=1)
    if milliseconds < 100:
        reader.note(f"{name} is {milliseconds} milliseconds.", f"For seconds: {name}={milliseconds}000")
    return milliseconds / 1000


def _sampler(reader: _Variables) -> Sampler:
    made, wrong = sampler(reader.get(SAMPLER), reader.get(ARGUMENT))
    for name, value, reason in wrong:
        reader.warn(name, value, reason)
    return made


def _limits(reader: _Variables) -> Limits:
    length = reader.limit("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", None)
    count = reader.limit("OTEL_ATTRIBUTE_COUNT_LIMIT", 128)
    return Limits(
        length=reader.limit("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", length),
        attributes=reader.limit("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", count),
        events=reader.limit("OTEL_SPAN_EVENT_COUNT_LIMIT", 128),
        links=reader.limit("OTEL_SPAN_LINK_COUNT_LIMIT", 128),
        event_attributes=reader.limit("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", count),
        link_attributes=reader.limit("OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", count),
    )


class _Variables:
    """The environment, read variable by variable; an empty value is none. Collects what is wrong."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self.problems: list[Problem] = []

    def get(self, name: str) -> str | None:
        return self._environment.get(name, "").strip() or None

    def signal(self, name: str) -> tuple[str, str | None]:
        """The variable for traces where it is set, else the one for all signals: its name and its value."""
        own = f"{OTLP}TRACES_{name}"
        value = self.get(own)
        return (f"{OTLP}{name}", self.get(f"{OTLP}{name}")) if value is None else (own, value)

    def flag(self, name: str) -> bool:
        value = (self.get(name) or "false").lower()
        if value not in ("true", "false"):
            self.warn(name, value, "it is `true` or `false`, and counts as false")
        return value == "true"

    def choice(self, name: str, known: tuple[str, ...], default: str) -> str:
        found, value = self.signal(name)
        if value is None or value.lower() in known:
            return default if value is None else value.lower()
        self.warn(found, value, f"known are {' and '.join(known)}; {default} is used")
        return default

    def number(self, name: str, default: int, *, least: int = 0) -> int:
        value = self.get(name)
        if value is None:
            return default
        if not value.isdecimal() or int(value) < least:
            self.warn(name, value, f"it must be a whole number of {least} or more; {default} is used")
            return default
        return int(value)

    def limit(self, name: str, default: int | None) -> int | None:
        value = self.get(name)
        if value is not None and value.isdecimal():
            return int(value)
        if value is not None:
            kept = "no limit" if default is None else default
            self.warn(name, value, f"it must be a whole number; {kept} is used")
        return default

    def file(self, name: str, unusable: Callable[[str], str | None] = lambda path: None) -> str | None:
        """A file's path; `unusable` says why it can't be used, if so."""
        found, value = self.signal(name)
        if value is None:
            return None
        reason = unusable(value) if os.access(value, os.R_OK) else "the file can't be read"
        if reason is not None:
            raise self.unusable(found, value, reason)
        return value

    def warn(self, name: str, value: str, reason: str, hint: str | None = None) -> None:
        self.note(f"{name}={value}: {reason}.", hint)

    def note(self, message: str, hint: str | None = None) -> None:
        self.problems.append(Problem(message, hint))

    def unusable(self, name: str, value: str, reason: str) -> _Unusable:
        if "@" in value:
            value = re.sub(r"(?<=//)[^@/]*@", "", value)
        self.warn(name, value, f"{reason}; spans are sent nowhere", "The record is not affected.")
        return _Unusable()
