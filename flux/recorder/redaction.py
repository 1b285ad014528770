"""Redaction at capture: what must not be read in a record is taken out before it is written.

Four kinds: credential headers, values of secrets that were read (8 bytes or longer, wherever they stand),
configured JSON paths, and configured columns. The Recorder and its executions call this; they seal the
originals. Without secrets, paths and columns it costs a look at header names.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable
from typing import Any

from flux.record.call import Attempt
from flux.recorder import form_bodies
from flux.recorder.json_paths import REDACTED, JsonPaths
from flux.recorder.secret_forms import SecretForms

Headers = list[tuple[str, str]]

CREDENTIAL_HEADERS = frozenset(
    {
        "authorization",
        "proxy-authorization",
        "cookie",
        "set-cookie",
        "cookie2",
        "set-cookie2",
        "x-api-key",
        "api-key",
        "apikey",
        "x-apikey",
        "x-auth-token",
        "x-access-token",
        "x-refresh-token",
        "x-id-token",
        "x-session-token",
        "x-csrf-token",
        "x-xsrf-token",
        "x-amz-security-token",
        "x-goog-api-key",
        "x-goog-iam-authorization-token",
        "x-gitlab-token",
        "private-token",
        "x-vault-token",
        "x-functions-key",
        "x-flux-key",
        "ocp-apim-subscription-key",
        "x-forwarded-authorization",
        "x-client-secret",
        "x-secret",
        "x-token",
        "x-shopify-access-token",
        "x-github-token",
    }
)
"""Lower-case names of headers whose values are withheld."""

_WHOLE = json.dumps(REDACTED).encode()
_CREDENTIAL_JSON = re.compile(
    b'"(?:' + b"|".join(re.escape(name.encode()) for name in sorted(CREDENTIAL_HEADERS)) + b')"',
    re.IGNORECASE,
)
_USERINFO_JSON = re.compile(rb'://[^/@?#\s"]*:[^/@?#\s"]*@')
_FIELD = re.compile(r"[\[\].]+")
_USERINFO = re.compile(r"(?<=://)[^/@?#\s]*:[^/@?#\s]*(?=@)")


class Redaction:
    """What is withheld in this project. One per process; secrets are added as they are read.

    Args:
        paths: JSON paths, as json_paths describes them. They also withhold query parameters and the fields
            of forms of that name.
        columns: `table.column`: its values in db calls' arguments and results and in rolled-back rows.
            `db.sql` doesn't say from which table a column came, so there the column's name decides.
    """

    def __init__(self, paths: Iterable[str] = (), columns: Iterable[str] = ()) -> None:
        self.paths = JsonPaths(paths)
        self.secrets = SecretForms()
        self._values: dict[str, dict[str, str]] = {}
        self._columns: dict[str, set[str]] = {}
        for name in columns:
            table, _, column = name.strip().rpartition(".")
            if column:
                self._columns.setdefault(column, set()).add(table.rpartition(".")[2])
        self._column_paths = JsonPaths(self._columns)

    def add_secret(self, name: str, version: str, value: str) -> None:
        """A secret was read: withhold its value from now on, and know its version."""
        known = self._values.setdefault(name, {})
        if known.get(value) != version:
            known[value] = version
            self.secrets.add(name, value)

    def secret_version(self, name: str, value: str) -> str | None:
        """The version of a secret with this value; None where it is no secret's (a fallback)."""
        return self._values.get(name, {}).get(value)

    def headers(self, headers: Headers) -> Headers:
        """The headers with credentials withheld; the same list where there are none."""
        for name, _ in headers:
            if name.lower() in CREDENTIAL_HEADERS:
                return [(k, REDACTED if k.lower() in CREDENTIAL_HEADERS else v) for k, v in headers]
        return headers

    def json_bytes(self, data: bytes) -> tuple[bytes, bool]:
        """JSON text with the configured paths withheld, and whether anything was.

        What should be JSON but can't be read is withheld whole where it may hold what a path names.
        """
        broken = self.paths.may_be_in_broken(data)
        if not broken and not self.paths.may_match(data):
            return data, False
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            return (_WHOLE, True) if broken else (data, False)
        return (_written(value), True) if self.paths.withhold(value) else (data, False)

    def query(self, query: str) -> str:
        """A query string with parameters withheld that a path matches; the same string where none does."""
        return form_bodies.urlencoded(query, self._field) if self.paths and query else query

    def body(self, content_type: str, data: bytes) -> tuple[bytes, bool]:
        """A request's body, JSON or a form, with the configured paths withheld, and whether anything was."""
        form = form_bodies.body(content_type, data, self._field) if self.paths else None
        return self.json_bytes(data) if form is None else (form, form is not data)

    def _field(self, name: str, value: bytes) -> bytes:
        """What is recorded of a form's field; `card[number]` and `card.number` are the path `card.number`."""
        trail = tuple(part for part in _FIELD.split(name) if part and not part.isdigit())
        if self.paths.matches((name,)) or (trail and self.paths.matches(trail)):
            return REDACTED.encode()
        return self.json_bytes(value)[0]

    def url(self, url: str) -> str:
        """A URL without its user's password, its query as in `query`."""
        if "@" in url:
            url = _USERINFO.sub(REDACTED, url)
        if not self.paths:
            return url
        before, mark, query = url.partition("?")
        query, hash_mark, fragment = query.partition("#")
        return f"{before}{mark}{self.query(query)}{hash_mark}{fragment}"

    def arguments(self, op: str, data: bytes) -> bytes:
        """A host call's arguments with headers, paths and columns withheld; the same bytes where nothing
        is.
        """
        if op == "fetch" and self._fetch_may_match(data):
            data, _ = _edited(data, self._fetch)
        elif self._columns and op == "db.query" and self._column_paths.may_match(data):
            data, _ = _edited(data, self._query_columns)
        return self.json_bytes(data)[0]

    def result(self, op: str, arguments: bytes, data: bytes) -> bytes:
        """A host call's result, likewise."""
        if op == "fetch" and self._fetch_may_match(data):
            data, _ = _edited(data, self._fetch)
        elif self._columns and op in ("db.query", "db.sql") and self._column_paths.may_match(data):
            table = _table(arguments) if op == "db.query" else None
            data, _ = _edited(data, lambda value: self._row_columns(value, table))
        return self.json_bytes(data)[0]

    def attempt(self, attempt: Attempt) -> None:
        """A rolled-back row's images, columns withheld, changed in place."""
        if not self._columns:
            return
        for name in ("key", "before", "after"):
            data = getattr(attempt, name)
            if data is not None and self._column_paths.may_match(data):
                setattr(attempt, name, _edited(data, lambda row: self._row(row, attempt.table))[0])

    def _fetch_may_match(self, data: bytes) -> bool:
        return self.paths.may_be_named(data) or bool(
            _CREDENTIAL_JSON.search(data) or _USERINFO_JSON.search(data)
        )

    def _fetch(self, value: Any) -> bool:
        hit = False
        if not isinstance(value, dict):
            return False
        headers = value.get("headers")
        if isinstance(headers, list):
            for pair in headers:
                if isinstance(pair, list) and len(pair) == 2 and str(pair[0]).lower() in CREDENTIAL_HEADERS:
                    hit = hit or pair[1] != REDACTED
                    pair[1] = REDACTED
        url = value.get("url")
        if isinstance(url, str) and (clean := self.url(url)) != url:
            value["url"] = clean
            hit = True
        return (bool(self.paths) and self._fetch_body(value, _header(headers, "content-type"))) or hit

    def _fetch_body(self, value: dict[str, Any], content_type: str) -> bool:
        body = value.get("body")
        if isinstance(body, str):
            kept, hit = self.body(content_type, body.encode("utf-8", "surrogatepass"))
            if hit:
                value["body"] = kept.decode("utf-8", "surrogatepass")
        elif isinstance(body, dict) and isinstance(body.get("$bytea"), str):
            kept, hit = self.body(content_type, base64.b64decode(body["$bytea"]))
            if hit:
                body["$bytea"] = base64.b64encode(kept).decode("ascii")
        else:
            return False
        return hit

    def _query_columns(self, value: Any) -> bool:
        if not isinstance(value, dict):
            return False
        table = str(value.get("table", "")).rpartition(".")[2]
        hit = False
        for member in ("data", "filters"):
            found = value.get(member)
            for row in found if isinstance(found, list) else [found]:
                hit = self._row(row, table) or hit
        return hit

    def _row_columns(self, value: Any, table: str | None) -> bool:
        rows = value.get("rows") if isinstance(value, dict) else None
        hit = False
        for row in rows if isinstance(rows, list) else ():
            hit = self._row(row, table) or hit
        return hit

    def _row(self, row: Any, table: str | None) -> bool:
        hit = False
        if isinstance(row, dict):
            for column in row.keys() & self._columns.keys():
                if (table is None or table in self._columns[column]) and row[column] not in (None, REDACTED):
                    row[column] = REDACTED
                    hit = True
        return hit


def _edited(data: bytes, edit: Callable[[Any], bool]) -> tuple[bytes, bool]:
    """`data` parsed, edited and written again where `edit` says that it changed something; numbers keep
    their digits.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return data, False
    return (_written(value), True) if edit(value) else (data, False)


def _written(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def _header(headers: Any, wanted: str) -> str:
    for pair in headers if isinstance(headers, list) else ():
        if isinstance(pair, list) and len(pair) == 2 and str(pair[0]).lower() == wanted:
            return str(pair[1])
    return ""


def _table(arguments: bytes) -> str:
    try:
        value = json.loads(arguments)
    except (ValueError, RecursionError):
        return ""
    return str(value.get("table", "")).rpartition(".")[2] if isinstance(value, dict) else ""
