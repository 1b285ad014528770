"""Loading a function: its entry becomes the module `functions.<name>.<entry>`, so that relative imports work,
and gives its handler.

`import helper` finds the function's own files, `from _shared import x` the shared folders, `from .helper
import x` and `from .._shared import x` both.
"""

import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any


class BadFunction(Exception):
    """The module is no function; `file` (below the bundle) and `line` say where."""

    def __init__(self, message: str, file: str, line: int) -> None:
        super().__init__(message)
        self.file = file
        self.line = line


def load(root: str, entry: str) -> Callable[[Any, Any], Any]:
    """Run the entry's top-level code and give its `handler`.

    Args:
        root: the bundle's folder; entry: the entry's path in it.

    Raises:
        BadFunction: there is no usable handler. Anything else is what the user's code raised.
    """
    folder = os.path.join(root, entry.partition("/")[0])
    path = os.path.join(root, entry)
    found = [folder, root] if os.path.dirname(path) == folder else [os.path.dirname(path), folder, root]
    sys.path[:0] = found
    package = "functions"
    _package(package, root)
    *folders, _ = entry.split("/")
    at = root
    for part in folders:
        at = os.path.join(at, part)
        package = f"{package}.{part}"
        _package(package, at)
    name = f"{package}.{os.path.splitext(os.path.basename(entry))[0]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise BadFunction(f"{entry} is not a Python file.", entry, 1)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return _handler(module, entry)


def _package(name: str, folder: str) -> None:
    spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
    spec.submodule_search_locations = [folder]
    initial = os.path.join(folder, "__init__.py")
    if name.count(".") and os.path.isfile(initial):
        spec = importlib.util.spec_from_file_location(name, initial, submodule_search_locations=[folder])  # type: ignore[assignment]
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    if spec.loader is not None:
        spec.loader.exec_module(module)


def _handler(module: ModuleType, entry: str) -> Callable[[Any, Any], Any]:
    handler = getattr(module, "handler", None)
    if handler is None:
        raise BadFunction(f"{entry} has no `handler`: write `async def handler(input, ctx):`.", entry, 1)
    line = getattr(getattr(handler, "__code__", None), "co_firstlineno", 1)
    if not callable(handler):
        raise BadFunction(f"`handler` in {entry} is not a function.", entry, line)
    code = getattr(handler, "__code__", None)
    if code is not None and not hasattr(handler, "__wrapped__"):
        bound = 1 if hasattr(handler, "__self__") else 0
        least = code.co_argcount - bound - len(handler.__defaults__ or ())
        most = code.co_argcount - bound
        required = [n for n in code.co_varnames[code.co_argcount :][: code.co_kwonlyargcount]]
        missing = [n for n in required if n not in (handler.__kwdefaults__ or {})]
        if least > 2 or (most < 2 and not code.co_flags & 0x04) or missing:
            raise BadFunction(
                f"`handler` in {entry} must take two arguments: `handler(input, ctx)`.", entry, line
            )
    return handler
