"""Named queries from .sql files that lie beside the package using them.

A query is a `-- name: latest` line followed by SQL, up to the next such line. `Queries("flux.query")` reads
every `flux/query/sql/*.sql`; `Q.latest` or `Q["latest"]` is the text.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from importlib.resources import files

_NAME = re.compile(r"^--\s*name:\s*(\S+)\s*$", re.MULTILINE)


class Queries:
    """The queries of one package, read once.

    Args:
        package: dotted name of the package whose `sql/` folder holds them.

    Raises:
        ValueError: a file has SQL before its first name, a query is empty, or two have one name.
    """

    def __init__(self, package: str) -> None:
        self._package = package
        self._texts: dict[str, str] = {}
        folder = files(package) / "sql"
        for file in sorted(folder.iterdir(), key=lambda entry: entry.name):
            if file.name.endswith(".sql"):
                for name, text in _parse(file.read_text(encoding="utf-8"), f"{package}/sql/{file.name}"):
                    if name in self._texts:
                        raise ValueError(f"{package}/sql/{file.name}: a second query is named `{name}`")
                    self._texts[name] = text

    def __getitem__(self, name: str) -> str:
        try:
            return self._texts[name]
        except KeyError:
            raise KeyError(self._missing(name)) from None

    def __getattr__(self, name: str) -> str:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self._texts[name]
        except KeyError:
            raise AttributeError(self._missing(name)) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def _missing(self, name: str) -> str:
        close = difflib.get_close_matches(name, self._texts, n=1)
        hint = (
            f"; did you mean `{close[0]}`?"
            if close
            else f"; it has: {', '.join(sorted(self._texts)) or 'none'}"
        )
        return f"{self._package}/sql has no query named `{name}`{hint}"


def _parse(text: str, where: str) -> Iterator[tuple[str, str]]:
    marks = list(_NAME.finditer(text))
    head = text[: marks[0].start()] if marks else text
    if any(line.strip() and not line.lstrip().startswith("--") for line in head.splitlines()):
        raise ValueError(f"{where}: SQL before the first `-- name:` line")
    for mark, following in zip(marks, [*marks[1:], None], strict=True):
        body = text[mark.end() : following.start() if following else len(text)].strip()
        if not body:
            raise ValueError(f"{where}: query `{mark[1]}` is empty")
        yield mark[1], body
