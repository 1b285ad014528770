"""Redaction at capture: what must not be read in a record is taken out before it is written.

Four kinds: credential headers (`header_names`), values of secrets (8 bytes or longer, wherever and however
encoded they stand, `secret_forms`), configured JSON paths, and configured columns. The Recorder and its
executions call this; they seal the originals. What can't be read and may hold such a value is withheld whole.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import msgspec

from flux.record.call import Attempt, CallError
from flux.recorder import form_bodies, json_members, packed, row_details
from flux.recorder.header_names import HeaderNames
from flux.recorder.json_members import MARK, REDACTED, NoJson
from flux.recorder.json_paths import JsonPaths
from flux.recorder.secret_forms import USERINFO, SecretForms

Headers = list[tuple[str, str]]

_FIELD = re.compile(r"[\[\].]+")
_DEEPEST = 8
"""Times that JSON may stand in a string of JSON."""


class _Fetch(msgspec.Struct):
    """What of a fetch's arguments or result is looked at first."""

    headers: list[tuple[str, str]] = []


_read_fetch = msgspec.json.Decoder(_Fetch).decode


class Redaction:
    """What is withheld in this project. One per process; secrets are added as they become known.

    Args:
        paths: JSON paths, as json_paths describes them. They also withhold query parameters and the fields
            of forms of that name.
        columns: `table.column`: its values in db calls' arguments, results and errors, and in rolled-back
            rows. `db.sql` doesn't say from which table a column came, so there the column's name decides;
            where a statement names one, its parameters are withheld.
        headers: names of headers that are withheld besides, as header_names describes them.
    """

    def __init__(
        self, paths: Iterable[str] = (), columns: Iterable[str] = (), headers: Iterable[str] = ()
    ) -> None:
        self.paths = JsonPaths(paths)
        self.header_names = HeaderNames(headers)
        self._values: dict[str, dict[str, str]] = {}
        self._columns: dict[str, set[str]] = {}
        for name in columns:
            table, _, column = name.strip().casefold().rpartition(".")
            if column:
                self._columns.setdefault(column, set()).add(table.rpartition(".")[2])
        self._column_paths = JsonPaths(self._columns)
        shown = [name.encode() for name in self._columns]
        self.secrets = SecretForms(row_details.spans_of(shown) if shown else None)

    def add_secret(self, name: str, version: str, value: str) -> None:
        """A secret is known: withhold its value from now on, and know its version."""
        known = self._values.setdefault(name, {})
        if known.get(value) != version:
            known[value] = version
            self.secrets.add(name, value)

    def secret_version(self, name: str, value: str) -> str | None:
        """The version of a secret with this value; None where it is no secret's (a fallback)."""
        return self._values.get(name, {}).get(value)

    def headers(self, headers: Headers) -> Headers:
        """The headers with credentials withheld; the same list where there are none."""
        withheld = self.header_names
        for name, _ in headers:
            if name in withheld:
                return [(k, REDACTED if k in withheld else v) for k, v in headers]
        return headers

    def json_bytes(self, data: bytes) -> tuple[bytes, bool]:
        """JSON text with the configured paths withheld, and whether anything was.

        What should be JSON but can't be read is withheld whole where it may hold what a path names.
        """
        return self._json(data, _DEEPEST) if self.paths else (data, False)

    def _json(self, data: bytes, deepest: int) -> tuple[bytes, bool]:
        if b"\0" in data[:4] and (text := _narrow(data)) is not None:  # UTF-16 or UTF-32
            return (MARK, True) if self._json(text, deepest)[1] else (data, False)
        broken = self.paths.may_be_in_broken(data)
        if not broken and not self.paths.may_match(data):
            return data, False
        try:
            return json_members.withhold(
                data, self.paths.matches, inner=lambda text: self._inner(text, deepest)
            )
        except NoJson:
            return (MARK, True) if broken else (data, False)

    def _inner(self, text: bytes, deepest: int) -> bytes:
        """What is kept of JSON in a string of JSON."""
        return self._json(text, deepest - 1)[0] if deepest else REDACTED.encode()

    def query(self, query: str) -> str:
        """A query string with parameters withheld that a path matches; the same string where none does."""
        return form_bodies.urlencoded(query, self._field) if self.paths and query else query

    def message(self, text: str) -> str:
        """A log message: where it is JSON, with the configured paths withheld."""
        if not self.paths or text[:1] not in ("{", "[", '"'):
            return text
        data = text.encode("utf-8", "surrogatepass")
        kept, hit = self.json_bytes(data)
        return kept.decode("utf-8", "surrogatepass") if hit else text

    def params(self, params: Mapping[str, str]) -> dict[str, str]:
        """Parameters of a path, likewise."""
        return {name: REDACTED if self.paths.matches((name,)) else value for name, value in params.items()}

    def path(self, path: str, params: Mapping[str, str]) -> str:
        """A path, or a URL, without the parameters that are withheld.

        Args:
            path: as it was sent. params: its parameters, decoded.
        """
        for name, value in params.items() if self.paths else ():
            if value and self.paths.matches((name,)):
                for spelled in {
                    value,
                    quote(value, safe=""),
                    quote(value),
                    quote(value, safe="/:@!$&'()*+,;=~"),
                }:
                    path = path.replace(f"/{spelled}", f"/{REDACTED}")
        return path

    def body(self, content_type: str, data: bytes, encoding: str = "") -> tuple[bytes, bool]:
        """A body, JSON or a form, with the configured paths withheld, and whether anything was.

        A compressed one is withheld whole where it holds something to withhold, or can't be read.

        Args:
            content_type, encoding: as the headers of that name say.
        """
        if not self.paths or not data:
            return data, False
        if encoding or data.startswith(packed.GZIP):
            plain = packed.unpack(encoding or "gzip", data)
            if plain is None:
                return MARK, True
            if plain is not data:
                return (MARK, True) if self.body(content_type, plain)[1] else (data, False)
        form = form_bodies.body(content_type, data, self._field)
        return self.json_bytes(data) if form is None else (form, form is not data)

    def _field(self, name: str, value: bytes) -> bytes:
        """What is recorded of a form's field; `card[number]` and `card.number` are the path `card.number`."""
        trail = tuple(part for part in _FIELD.split(name) if part and not part.isdigit())
        if self.paths.matches((name,)) or (trail and self.paths.matches(trail)):
            return REDACTED.encode()
        return self.json_bytes(value)[0]

    def url(self, url: str) -> str:
        """A URL without its user's name and password, its query as in `query`."""
        if "@" in url:
            url = USERINFO.sub(
                lambda found: found[0].replace(found[1], REDACTED.encode()),
                url.encode("utf-8", "surrogatepass"),
            ).decode("utf-8", "surrogatepass")
        if not self.paths:
            return url
        before, mark, query = url.partition("?")
        query, hash_mark, fragment = query.partition("#")
        return f"{before}{mark}{self.query(query)}{hash_mark}{fragment}"

    def arguments(self, op: str, data: bytes) -> bytes:
        """A host call's arguments with headers, paths and columns withheld; the same bytes where nothing
        is.
        """
        if op == "fetch":
            data = self._fetch(data)
        elif self._columns and op == "db.query" and self._column_paths.may_match(data):
            table = _table(data)
            data = _members(data, lambda trail: self._in_arguments(trail, table))
        elif self._columns and op == "db.sql" and self._column_paths.may_be_in_broken(data):
            # Which parameter goes into which column only Postgres knows.
            data = _members(data, lambda trail: len(trail) == 1 and trail[0] == "params")
        return self.json_bytes(data)[0]

    def result(self, op: str, arguments: bytes, data: bytes) -> bytes:
        """A host call's result, likewise."""
        if op == "fetch":
            data = self._fetch(data)
        elif self._columns and op in ("db.query", "db.sql") and self._column_paths.may_match(data):
            table = _table(arguments) if op == "db.query" else None
            data = _members(data, lambda trail: self._in_row(trail, table))
        return self.json_bytes(data)[0]

    def attempt(self, attempt: Attempt) -> None:
        """A rolled-back row's images, columns withheld, changed in place."""
        if not self._columns:
            return
        table = attempt.table.casefold()
        for name in ("key", "before", "after"):
            data = getattr(attempt, name)
            if data is not None and self._column_paths.may_match(data):
                kept = _members(data, lambda trail: len(trail) == 1 and self._is_withheld(trail[0], table))
                setattr(attempt, name, kept)

    def error(self, error: CallError) -> CallError:
        """What is recorded of a call's error; the same one where nothing is withheld."""
        message = self.secrets.remove_text(error.message)
        detail = {name: self.secrets.remove_text(value) for name, value in error.detail.items()}
        if message == error.message and detail == error.detail:
            return error
        return CallError(error.type, message, detail)

    def _fetch(self, data: bytes) -> bytes:
        """Arguments or result of a fetch: credential headers, the URL's user, and what paths name."""
        try:
            headers = _read_fetch(data).headers
        except (msgspec.DecodeError, UnicodeDecodeError):
            headers = None
        withheld = self.header_names
        named = headers is None or any(name in withheld for name, _ in headers)
        if not named and not self.paths.may_be_named(data) and not USERINFO.search(data):
            return data
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            return MARK if withheld.may_stand_in(data) else data  # nobody knows where its headers are
        return _written(value) if self._fetch_members(value) else data

    def _fetch_members(self, value: Any) -> bool:
        hit = False
        if not isinstance(value, dict):
            return False
        headers = value.get("headers")
        for pair in headers if isinstance(headers, list) else ():
            if isinstance(pair, list) and len(pair) == 2 and str(pair[0]) in self.header_names:
                hit = hit or pair[1] != REDACTED
                pair[1] = REDACTED
        url = value.get("url")
        if isinstance(url, str) and (clean := self.url(url)) != url:
            value["url"] = clean
            hit = True
        return (bool(self.paths) and self._fetch_body(value, headers)) or hit

    def _fetch_body(self, value: dict[str, Any], headers: Any) -> bool:
        kind, encoding = _header(headers, "content-type"), _header(headers, "content-encoding")
        body = value.get("body")
        if isinstance(body, str):
            kept, hit = self.body(kind, body.encode("utf-8", "surrogatepass"))
            if hit:
                value["body"] = kept.decode("utf-8", "surrogatepass")
        elif isinstance(body, dict) and isinstance(body.get("$bytea"), str):
            try:
                content = base64.b64decode(body["$bytea"])
            except binascii.Error:
                return False
            kept, hit = self.body(kind, content, encoding)
            if hit:
                body["$bytea"] = base64.b64encode(kept).decode("ascii")
        else:
            return False
        return hit

    def _is_withheld(self, column: str, table: str | None) -> bool:
        tables = self._columns.get(column.casefold())
        return tables is not None and (table is None or table in tables)

    def _in_arguments(self, trail: Sequence[str], table: str) -> bool:
        """Whether a member of db.query's arguments holds a withheld column's value."""
        if trail[0] not in ("data", "filters"):
            return False
        return len(trail) > 1 and self._is_withheld(trail[-1], table)

    def _in_row(self, trail: Sequence[str], table: str | None) -> bool:
        if trail[0] != "rows" or len(trail) < 2:
            return False
        # Where no table is known, a row may stand in a row: to_jsonb(u), json_agg(u).
        return (len(trail) == 2 or table is None) and self._is_withheld(trail[-1], table)


def _without_user(url: re.Match[bytes]) -> bytes:
    return url[0].replace(url[1], REDACTED.encode())


def _members(data: bytes, decide: json_members.Decide) -> bytes:
    try:
        return json_members.withhold(data, decide, keep_null=True)[0]
    except NoJson:
        return MARK


def _narrow(data: bytes) -> bytes | None:
    """JSON in UTF-16 or UTF-32 as UTF-8; None where it is none."""
    try:
        return data.decode(json.detect_encoding(data)).encode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return None


def _written(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def _header(headers: Any, wanted: str) -> str:
    for pair in headers if isinstance(headers, list) else ():
        if isinstance(pair, list) and len(pair) == 2 and str(pair[0]).lower() == wanted:
            return str(pair[1])
    return ""


class _Table(msgspec.Struct):
    table: str = ""


_read_table = msgspec.json.Decoder(_Table).decode


def _table(arguments: bytes) -> str:
    try:
        return _read_table(arguments).table.rpartition(".")[2].casefold()
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
