"""The randomness shims: os.urandom, `random`, `secrets`, `uuid` and `ssl` draw from the invocation's seed.
Installed before user code.
"""

import os
from types import ModuleType
from typing import Any

from flux_guest.hooks import when_imported
from flux_guest.sources import sources

_UUID_STATE = ("_last_timestamp", "_last_timestamp_v6", "_last_timestamp_v7", "_last_counter_v7")


def random_bytes(size: int) -> bytes:
    """What os.urandom is here."""
    return sources().random_bytes(size)


def install() -> None:
    """Replace os.urandom now, and what `random`, `uuid` and `ssl` have when they are imported."""
    os.urandom = random_bytes
    if hasattr(os, "getrandom"):
        os.getrandom = lambda size, flags=0: random_bytes(size)
    when_imported("random", _install_random)
    when_imported("uuid", _install_uuid)
    when_imported("ssl", _install_ssl)


def _install_random(module: ModuleType) -> None:
    module._urandom = random_bytes  # type: ignore[attr-defined]
    seed = module.Random.seed

    def seeded(self: Any, a: Any = None, version: int = 2) -> None:
        """Unseeded generators are seeded from the invocation."""
        seed(self, int.from_bytes(random_bytes(32), "big") if a is None else a, version)

    module.Random.seed = seeded
    hidden = module._inst

    def generator() -> Any:
        state = sources().state
        found = state.get("random")
        if found is None:
            found = state["random"] = module.Random()
        return found

    def per_invocation(name: str) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            return getattr(generator(), name)(*arguments, **named)

        call.__name__ = call.__qualname__ = name
        call.__doc__ = getattr(hidden, name).__doc__
        return call

    for name in module.__all__:
        if getattr(getattr(module, name), "__self__", None) is hidden:
            setattr(module, name, per_invocation(name))


def _install_uuid(module: ModuleType) -> None:
    for name in ("_generate_time_safe", "_UuidCreate"):
        if hasattr(module, name):
            setattr(module, name, None)

    def node() -> int:
        """A random multicast node, as RFC 9562 allows; one per invocation."""
        state = sources().state
        if "uuid.node" not in state:
            state["uuid.node"] = int.from_bytes(random_bytes(6), "big") | 1 << 40
        return state["uuid.node"]

    module.getnode = node  # type: ignore[attr-defined]
    kept = [name for name in _UUID_STATE if hasattr(module, name)]

    def per_invocation(real: Any) -> Any:
        """`real`, its module's memory of the last one made being the invocation's own."""

        def make(*arguments: Any, **named: Any) -> Any:
            state = sources().state.setdefault("uuid", {})
            for name in kept:
                setattr(module, name, state.get(name, 0 if name.endswith("counter_v7") else None))
            try:
                return real(*arguments, **named)
            finally:
                for name in kept:
                    state[name] = getattr(module, name)

        make.__name__ = make.__qualname__ = real.__name__
        make.__doc__ = real.__doc__
        return make

    for name in ("uuid1", "uuid6", "uuid7"):
        if hasattr(module, name):
            setattr(module, name, per_invocation(getattr(module, name)))


def _install_ssl(module: ModuleType) -> None:
    module.RAND_bytes = random_bytes  # type: ignore[attr-defined]
