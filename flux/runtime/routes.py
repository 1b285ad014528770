"""Routes: templates such as `/users/{id}` and the table that finds a request's function.

Used by discovery (to find conflicts) and by the gateway.

A template's segments are literals or whole-segment parameters. If several fit, a literal wins over
a parameter, segment by segment from the left; one whose method does not fit is passed over. One
trailing slash in a request is ignored. An empty segment matches nothing. Parameters are
percent-decoded as UTF-8 after the path was split: `%2F` stays inside its segment, and a parameter
has it as `/`. Methods are told apart by case.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import unquote

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
RESERVED = "_flux"
_TRACES = ("/v1/traces", "/v1/traces/")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LITERAL = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@]|%[0-9A-Fa-f]{2}|[^\x00-\x7f])+")


def is_internal(path: str) -> bool:
    """Whether a path, decoded, is Flux's own: all below `/_flux`, and `/v1/traces`."""
    return (path.startswith("/_flux") and path[6:7] in ("", "/")) or path in _TRACES


class Match(NamedTuple):
    """A request's function, and its parameters by name, decoded."""

    function: str
    params: dict[str, str]


class NotAllowed(NamedTuple):
    """The path exists, the method does not: answered with 405. `allowed` is sorted."""

    function: None
    allowed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed route: each segment is a literal (decoded), or None where a parameter stands."""

    text: str
    segments: tuple[str | None, ...]
    names: tuple[str, ...]

    @property
    def static(self) -> bool:
        """Whether it has no parameter."""
        return not self.names


def parse(text: str) -> Template:
    """Read a route template.

    Raises:
        ValueError: with a sentence on what is wrong, for the person who wrote it.
    """
    if not text.startswith("/"):
        raise ValueError(f"a route begins with `/`; `{text}` doesn't")
    if text == "/":
        return Template(text, (), ())
    segments: list[str | None] = []
    names: list[str] = []
    for part in text.removesuffix("/")[1:].split("/"):
        if part.startswith("{") and part.endswith("}"):
            name = part[1:-1]
            if not _NAME.fullmatch(name):
                raise ValueError(
                    f"`{part}` in route `{text}` is not a parameter: a name in braces such as `{{id}}`"
                )
            if name in names:
                raise ValueError(f"parameter `{name}` stands twice in route `{text}`")
            names.append(name)
            segments.append(None)
        elif "{" in part or "}" in part:
            raise ValueError(
                f"a parameter takes a whole segment; `{part}` in route `{text}` mixes it with text"
            )
        elif not part:
            raise ValueError(f"route `{text}` has an empty segment")
        elif part in {".", ".."}:
            raise ValueError(
                f"route `{text}` has a `{part}` segment, which clients remove before they send it"
            )
        elif not _LITERAL.fullmatch(part):
            raise ValueError(f"`{part}` in route `{text}` holds a character that can't stand in a URL's path")
        else:
            try:
                segments.append(unquote(part, errors="strict"))
            except UnicodeDecodeError as error:
                raise ValueError(f"`{part}` in route `{text}` is not UTF-8 when decoded") from error
    if segments[0] == RESERVED:
        raise ValueError(f"route `{text}` lies under /{RESERVED}, which Flux keeps for itself")
    if "/" + "/".join(segment or "" for segment in segments) in _TRACES and not names:
        raise ValueError(f"route `{text}` is where Flux takes spans (OTLP)")
    return Template(text, tuple(segments), tuple(names))


@dataclass(slots=True)
class _Node:
    literals: dict[str, _Node] = field(default_factory=dict)
    parameter: _Node | None = None
    methods: dict[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)


class Routes:
    """The table of routes. Built anew when functions change, then only read."""

    def __init__(self) -> None:
        self._static: dict[str, dict[str, str]] = {}
        self._root = _Node()

    def add(self, function: str, methods: Iterable[str], template: Template) -> Mapping[str, str]:
        """Let `function` answer `methods` at `template`.

        Returns:
            The methods that another function already has there, with that function's name. Then nothing was
            added.
        """
        node = self._root
        for segment in template.segments:
            if segment is None:
                node.parameter = node.parameter or _Node()
                node = node.parameter
            else:
                node = node.literals.setdefault(segment, _Node())
        methods = tuple(methods)
        taken = {method: node.methods[method][0] for method in methods if method in node.methods}
        if taken:
            return taken
        for method in methods:
            node.methods[method] = (function, template.names)
        if template.static:
            path = "/" + "/".join(str(segment) for segment in template.segments)
            for spelling in {path, path.removesuffix("/") + "/"}:
                self._static.setdefault(spelling, {}).update(dict.fromkeys(methods, function))
        return {}

    def match(self, method: str, path: str) -> Match | NotAllowed | None:
        """Find the function for a request.

        Args:
            method: as sent; `post` is not POST. A GET function answers HEAD where no function asks for it.
            path: as sent, still percent-encoded, without the query.

        Returns:
            A Match; NotAllowed where the path exists for other methods (405); None where it doesn't exist
            (404).
        """
        found = self._static.get(path)
        if found is not None and (function := found.get(method)) is not None:
            return Match(function, {})
        if path[:1] != "/":
            return None
        parts = path.removesuffix("/")[1:].split("/") if path != "/" else []
        if "%" in path:
            try:
                parts = [unquote(part, errors="strict") for part in parts]
            except UnicodeDecodeError:
                return None
        if "" in parts:
            return None
        allowed: set[str] = set()
        for wanted in (method, "GET") if method == "HEAD" else (method,):
            search = _Search(parts, wanted, [], allowed)
            if (leaf := search.below(self._root, 0)) is not None:
                return Match(leaf[0], dict(zip(leaf[1], search.values, strict=True)))
        if not allowed:
            return None
        return NotAllowed(None, tuple(sorted(allowed | {"HEAD"} if "GET" in allowed else allowed)))


@dataclass(slots=True)
class _Search:
    """One request's way through the tree, with backtracking."""

    parts: list[str]
    method: str
    values: list[str]
    allowed: set[str]

    def below(self, node: _Node, at: int) -> tuple[str, tuple[str, ...]] | None:
        if at == len(self.parts):
            self.allowed.update(node.methods)
            return node.methods.get(self.method)
        part = self.parts[at]
        literal = node.literals.get(part)
        if literal is not None and (leaf := self.below(literal, at + 1)) is not None:
            return leaf
        if node.parameter is not None:
            self.values.append(part)
            if (leaf := self.below(node.parameter, at + 1)) is not None:
                return leaf
            self.values.pop()
        return None
