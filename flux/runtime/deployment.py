"""A deployment: one content-addressed version of one function, as it is run and as it is stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Deployment:
    """What one version of a function is.

    Attributes:
        id: 64 hex digits, sha256 over manifest, config, entry and engine versions.
        function: its folder's name.
        runtime: `typescript` or `python`.
        entry: path of the entry file inside the bundle, e.g. `create_user/index.ts`.
        files: path inside the bundle -> content; paths are relative to the project's functions/ folder, so
            that an error's `functions/` + path is the user's file.
        manifest: path -> sha256 hex.
        config: flux.json as read, defaults filled in.
        engine: versions of flux, the guest code and the engine.
    """

    id: str
    function: str
    runtime: str
    entry: str
    files: Mapping[str, bytes] = field(repr=False)
    manifest: Mapping[str, str] = field(repr=False)
    config: Mapping[str, Any]
    engine: Mapping[str, str]

    @property
    def timeout_ms(self) -> int:
        """The function's deadline in milliseconds."""
        return int(self.config["timeout_ms"])
