"""flux.json: reading and checking one function's settings. Used by discovery alone.

Every key is checked strictly, and what this version doesn't act on is said rather than passed over in
silence.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from flux.runtime.routes import METHODS, Template, parse

RUNTIMES = ("typescript", "python")
LONGEST_TIMEOUT_MS = 24 * 3600 * 1000
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]]', re.DOTALL)
_NOT_YET = {
    "async": "callers wait for its answer",
    "auth": "anyone who reaches the server can call it",
    "schema": "its input is not checked",
    "rate_limit": "its callers are not limited",
    "cors": "no CORS headers are sent",
    "cron": "it is not run by the clock",
}


@dataclass(frozen=True)
class Problem:
    """Something wrong with one function, for a person to read.

    Attributes:
        function: the folder's name, or None where it belongs to none.
        file: the file, relative to the project (`functions/hello/flux.json`).
        line, column: 1-based place in `file`, or None.
        message: what is wrong; hint: what to do about it, or None.
        severity: `error` (the function is not served) or `warning` (it is).
    """

    function: str | None
    file: str
    line: int | None
    column: int | None
    message: str
    hint: str | None = None
    severity: Literal["error", "warning"] = "error"


class FunctionConfig:
    """One flux.json as read. `values` holds the keys that are right; `problems` what is wrong with the
    others.
    """

    def __init__(self, function: str, file: str, text: str) -> None:
        self.function = function
        self.file = file
        self.values: dict[str, Any] = {}
        self.problems: list[Problem] = []
        self._places: dict[str, tuple[int, int]] = {}
        self._read(text)

    def problem(
        self,
        message: str,
        hint: str | None = None,
        *,
        key: str | None = None,
        severity: Literal["error", "warning"] = "error",
    ) -> None:
        """Add a problem, placed at `key`'s line and column where it stands in the file."""
        line, column = self._places.get(key or "", (None, None))
        self.problems.append(Problem(self.function, self.file, line, column, message, hint, severity))

    @property
    def usable(self) -> bool:
        """Whether nothing but warnings was found so far."""
        return all(problem.severity == "warning" for problem in self.problems)

    def _read(self, text: str) -> None:
        try:
            document = json.loads(text, parse_constant=_refuse_constant)
        except json.JSONDecodeError as error:
            self.problems.append(
                Problem(
                    self.function,
                    self.file,
                    error.lineno,
                    error.colno,
                    f"This is not JSON: {error.msg}.",
                    _json_hint(text, error.pos),
                )
            )
            return
        except (ValueError, RecursionError) as error:
            self.problem(f"This is not JSON: {error}.")
            return
        if not isinstance(document, dict):
            self.problem('flux.json must hold an object, such as {"route": "/users/{id}", "method": "GET"}.')
            return
        self._places = {}
        for key, line, column in _keys(text):
            if key in self._places:
                self._places[key] = (line, column)
                self.problem(f"`{key}` stands twice.", key=key)
            self._places[key] = (line, column)
        for key, value in document.items():
            check = _CHECKS.get(key)
            if check is None:
                close = difflib.get_close_matches(key, _CHECKS, n=1)
                hint = f"Did you mean `{close[0]}`?" if close else f"Known keys: {', '.join(_CHECKS)}."
                self.problem(f"Unknown key `{key}`.", hint, key=key)
                continue
            try:
                self.values[key] = check(value)
            except ValueError as error:
                self.problem(f"`{key}`: {error}.", key=key)
                continue
            if key in _NOT_YET and value not in (None, False):
                self.problem(
                    f"`{key}` has no effect in this version of Flux: {_NOT_YET[key]}.",
                    "The setting is stored with the function's deployment.",
                    key=key,
                    severity="warning",
                )


def _keys(text: str) -> Iterator[tuple[str, int, int]]:
    """The keys of the outermost object of a valid JSON text, each with its line and column."""
    depth = 0
    for token in _TOKEN.finditer(text):
        character = token[0][0]
        if character in "{[":
            depth += 1
        elif character in "}]":
            depth -= 1
        elif depth == 1 and text[token.end() :].lstrip()[:1] == ":":
            start = token.start()
            yield json.loads(token[0]), text.count("\n", 0, start) + 1, start - text.rfind("\n", 0, start)


def _json_hint(text: str, at: int) -> str | None:
    rest = text[at:].lstrip()
    if rest[:2] in {"//", "/*"} or rest[:1] == "#":
        return "JSON has no comments."
    before = text[:at].rstrip()
    if before.endswith(",") and rest[:1] in {"}", "]"}:
        return "Remove the comma before it."
    if rest[:1] == "'":
        return "JSON strings take double quotes."
    return None


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _kind(value: Any) -> str:
    names = {
        bool: "a boolean",
        int: "a number",
        float: "a number",
        str: "a string",
        list: "a list",
        dict: "an object",
    }
    return names.get(type(value), "null")


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"must be a string, not {_kind(value) if value != '' else 'an empty one'}")
    return value


def _runtime(value: Any) -> str:
    name = _text(value)
    if name in {"wasm", "webassembly"}:
        raise ValueError("WebAssembly functions are not served by this version yet")
    if name not in RUNTIMES:
        raise ValueError(f"must be one of {', '.join(RUNTIMES)}, not `{name}`")
    return name


def _route(value: Any) -> Template:
    return parse(_text(value))


def _methods(value: Any) -> list[str]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ValueError('must be an HTTP method or a list of them, such as "GET" or ["GET", "POST"]')
    for name in names:
        if name.upper() not in METHODS:
            raise ValueError(f"`{name}` is none of {', '.join(METHODS)}")
    return sorted({name.upper() for name in names}, key=METHODS.index)


def _timeout(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"must be a whole number of milliseconds, not {_kind(value)}")
    if not 1 <= value <= LONGEST_TIMEOUT_MS:
        raise ValueError(f"must be between 1 and {LONGEST_TIMEOUT_MS} milliseconds, not {value}")
    return value


def _record(value: Any) -> str:
    if value not in ("all", "errors", "none"):
        raise ValueError(f"must be one of all, errors, none, not {value!r}")
    return str(value)


def _one_of(*kinds: type, what: str) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if type(value) not in kinds and value is not None:
            raise ValueError(f"must be {what}, not {_kind(value)}")
        return value

    return check


def _example(value: Any) -> Any:
    if value is None:
        raise ValueError("must be an input that works, not null")
    return value


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "runtime": _runtime,
    "entry": _text,
    "route": _route,
    "method": _methods,
    "async": _one_of(bool, what="true or false"),
    "auth": _one_of(bool, str, list, dict, what="true, false, a string, a list or an object"),
    "schema": _one_of(str, dict, what="a JSON Schema or the name of its file"),
    "timeout_ms": _timeout,
    "rate_limit": _one_of(int, str, dict, what="a number, a string or an object"),
    "cors": _one_of(bool, str, list, dict, what="true, false, a string, a list or an object"),
    "record": _record,
    "example": _example,
    "cron": _one_of(str, list, dict, what="a cron expression, a list of them or an object"),
}
