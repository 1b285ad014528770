"""Discovery: which functions a project has. Used by the server at start and reload, and by the command line.

`functions/<name>/` with index.ts, index.js or main.py is a function, `flux.json` beside it its settings. A
folder whose name begins with `_` holds code that functions share; those that begin with a dot, and
node_modules, are nothing of Flux's.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from flux.config import Config
from flux.errors import ConfigError
from flux.runtime.function_config import FunctionConfig, Problem
from flux.runtime.routes import Routes, Template, parse
from flux.runtime.source_files import is_left_out, walk

__all__ = ["Discovery", "FunctionSource", "Problem", "discover", "routes_of"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_RUNTIMES = {
    ".ts": "typescript",
    ".mts": "typescript",
    ".tsx": "typescript",
    ".js": "typescript",
    ".mjs": "typescript",
    ".jsx": "typescript",
    ".py": "python",
}
_ENTRIES = (("index.ts", "index.js"), ("main.py",))
_NO_WASM = "WebAssembly functions are not served by this version yet."


@dataclass(frozen=True)
class FunctionSource:
    """A function as it stands on disk.

    Attributes:
        name: its folder's name.
        runtime: `typescript` or `python`.
        entry: path of its entry file below functions/, e.g. `create_user/index.ts`.
        config: flux.json, defaults filled in: `route` is the template's text, `method` a list.
        files: all its files and those of the shared folders, sorted.
        template: its route, parsed.
    """

    name: str
    runtime: str
    entry: str
    config: dict[str, Any]
    files: tuple[Path, ...] = field(repr=False)
    template: Template

    @property
    def route(self) -> str:
        """Its route's template, e.g. `/users/{id}`."""
        return self.template.text

    @property
    def methods(self) -> tuple[str, ...]:
        """The HTTP methods it answers."""
        return tuple(self.config["method"])


@dataclass(frozen=True)
class Discovery:
    """What was found: the functions that can be served, sorted by name, and what is wrong with the others."""

    functions: list[FunctionSource]
    problems: list[Problem]


def discover(functions_dir: Path, defaults: Config) -> Discovery:
    """Look through the functions folder. What is wrong with one function never hides another.

    Args:
        functions_dir: the project's functions/ folder.
        defaults: gives timeout_ms and record where flux.json doesn't.
    """
    shown = functions_dir.name
    try:
        with os.scandir(functions_dir) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        message = f"The functions folder can't be read: {error.strerror}."
        return Discovery(
            [], [Problem(None, shown, None, None, message, f"Make it with: mkdir -p {shown}", "warning")]
        )
    problems: list[Problem] = []
    shared: list[str] = []
    folders: list[Path] = []
    for item in found:
        if is_left_out(item.name):
            continue
        path = functions_dir / item.name
        if not item.is_dir():
            if path.suffix in {*_RUNTIMES, ".wasm"} and not item.name.startswith("_"):
                entry = "main.py" if path.suffix == ".py" else f"index{path.suffix}"
                hint = f"Move it to {shown}/{path.stem}/{entry}."
                problems.append(
                    Problem(
                        None,
                        f"{shown}/{item.name}",
                        None,
                        None,
                        "A function is a folder; this file is not served.",
                        hint,
                        "warning",
                    )
                )
        elif item.name.startswith("_"):
            try:
                shared += walk(path, functions_dir)
            except ConfigError as error:
                problems.append(Problem(None, f"{shown}/{item.name}", None, None, error.message, error.hint))
        else:
            folders.append(path)
    functions: list[FunctionSource] = []
    routes = Routes()
    for folder in folders:
        source, faults = _read(folder, functions_dir, shared, defaults)
        if source is not None:
            taken = routes.add(source.name, source.methods, source.template)
            if taken:
                method, other = next(iter(taken.items()))
                message = f"{method} {source.route} is already the route of function `{other}`."
                faults.append(
                    Problem(
                        source.name,
                        _config_file(folder, functions_dir),
                        None,
                        None,
                        message,
                        "Give one of them another route.",
                    )
                )
            else:
                functions.append(source)
        problems += faults
    return Discovery(functions, problems)


def routes_of(functions: Iterable[FunctionSource]) -> Routes:
    """The routing table of `functions`; of two with one route and method the first keeps it."""
    routes = Routes()
    for source in functions:
        routes.add(source.name, source.methods, source.template)
    return routes


def _config_file(folder: Path, functions_dir: Path) -> str:
    name = f"{functions_dir.name}/{folder.name}"
    return f"{name}/flux.json" if (folder / "flux.json").is_file() else name


def _read(
    folder: Path, functions_dir: Path, shared: list[str], defaults: Config
) -> tuple[FunctionSource | None, list[Problem]]:
    name = folder.name
    place = f"{functions_dir.name}/{name}"
    try:
        own = walk(folder, functions_dir)
    except ConfigError as error:
        return None, [Problem(name, place, None, None, error.message, error.hint)]
    text, where = "{}", place
    if (folder / "flux.json").is_file():
        where = f"{place}/flux.json"
        try:
            text = (folder / "flux.json").read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            return None, [Problem(name, where, None, None, f"It can't be read as UTF-8 text: {error}.")]
    config = FunctionConfig(name, where, text)
    if not _NAME.fullmatch(name):
        config.problem(
            f"`{name}` can't be a function's name.",
            "Use letters, digits, `_` and `-`, beginning with a letter or digit.",
        )
    if not own:
        config.problem("The folder is empty.", "Add an index.ts or a main.py.", severity="warning")
        return None, config.problems
    prefix = len(str(folder)) + 1
    entry = _entry(config, folder, {path[prefix:].replace(os.sep, "/") for path in own})
    if entry is None or not config.usable:
        return None, config.problems
    runtime = config.values.get("runtime") or _RUNTIMES[PurePosixPath(entry).suffix]
    template = config.values.get("route") or _default_route(name)
    settings: Mapping[str, Any] = {
        "method": ["POST"],
        "async": False,
        "timeout_ms": defaults.timeout_ms,
        "record": defaults.record,
        **config.values,
        "runtime": runtime,
        "entry": entry,
        "route": template.text,
    }
    files = tuple(map(Path, sorted({*own, *shared})))
    return FunctionSource(name, runtime, f"{name}/{entry}", dict(settings), files, template), config.problems


def _default_route(name: str) -> Template:
    return parse(f"/{name}")


def _entry(config: FunctionConfig, folder: Path, files: set[str]) -> str | None:
    """The entry file below the function's folder, or None with the problem noted."""
    wanted = config.values.get("runtime")
    named = config.values.get("entry")
    if named is not None:
        return _named_entry(config, named, wanted, folder, files)
    present = [next(name for name in group if name in files) for group in _ENTRIES if files & set(group)]
    if wanted is not None:
        present = [name for name in present if _RUNTIMES[PurePosixPath(name).suffix] == wanted]
    if len(present) > 1:
        config.problem(
            f"There are both {' and '.join(present)}.",
            'Keep one, or name it in flux.json: {"entry": "' + present[0] + '"}.',
        )
        return None
    if present:
        return present[0]
    if "main.wasm" in files and wanted is None:
        config.problem(_NO_WASM, "Write the function in TypeScript or Python.")
    elif wanted is not None:
        expected = "main.py" if wanted == "python" else "index.ts or index.js"
        config.problem(
            f"There is no {expected} here.", 'Add it, or name another file as "entry".', key="runtime"
        )
    elif config.usable:
        config.problem(
            "There is no index.ts, index.js or main.py here.",
            'Add one, or name it in flux.json as "entry". Shared code stands in folders named `_...`.',
        )
    return None


def _named_entry(
    config: FunctionConfig, named: str, wanted: str | None, folder: Path, files: set[str]
) -> str | None:
    path = PurePosixPath(named.removeprefix("./"))
    entry = path.as_posix()
    if path.is_absolute() or ".." in path.parts or "\\" in named:
        config.problem(f"`entry`: `{named}` lies outside the function's folder.", key="entry")
        return None
    if entry not in files:
        missing = "is not part of the function" if (folder / entry).exists() else "does not exist"
        config.problem(f"`entry`: `{named}` {missing}.", key="entry")
        return None
    if path.suffix == ".wasm":
        config.problem(_NO_WASM, "Write the function in TypeScript or Python.", key="entry")
        return None
    runtime = _RUNTIMES.get(path.suffix)
    if runtime is None:
        config.problem(f"`entry`: `{named}` is neither TypeScript, JavaScript nor Python.", key="entry")
        return None
    if wanted is not None and runtime != wanted:
        config.problem(f"`entry`: `{named}` is not {wanted}, which `runtime` says.", key="entry")
        return None
    return entry
