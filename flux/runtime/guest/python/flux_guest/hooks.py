"""Changing modules as they are first imported, so that what nobody imports costs nothing. Used by the shims
and the network patch.
"""

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

_waiting: dict[str, Callable[[ModuleType], None]] = {}


def when_imported(name: str, patch: Callable[[ModuleType], None]) -> None:
    """Call `patch` with the module `name`: now if it is there, else right after its code has run."""
    module = sys.modules.get(name)
    if module is not None:
        patch(module)
    else:
        _waiting[name] = patch


class _Loader:
    """A module's own loader, followed by the patch."""

    def __init__(self, loader: Any, patch: Callable[[ModuleType], None]) -> None:
        self._loader = loader
        self._patch = patch

    def create_module(self, spec: Any) -> Any:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        spec = module.__spec__
        if spec is not None:
            spec.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._patch(module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)


class _Finder:
    """First on sys.meta_path; finds with those behind it."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> Any:
        patch = _waiting.pop(name, None)
        if patch is None:
            return None
        for finder in sys.meta_path:
            if finder is _Finder:
                continue
            spec = finder.find_spec(name, path, target)
            if spec is not None and spec.loader is not None:
                spec.loader = _Loader(spec.loader, patch)  # type: ignore[assignment]
                return spec
        return None


def install() -> None:
    """Begin to watch imports."""
    sys.meta_path.insert(0, _Finder)
