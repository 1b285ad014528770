"""`sqlite3` in memory on the invocation's clock and random numbers. SQLite has its own of both: each
connection gets functions of the same names in their place. Installed before user code loads.
"""

from types import ModuleType
from typing import Any

from flux_guest.hooks import when_imported
from flux_guest.sources import sources

_TIMES = {"date": 0, "time": 0, "datetime": 0, "julianday": 0, "unixepoch": 0, "strftime": 1, "timediff": 0}
"""SQLite's functions of time, by the first argument that is one."""
_KEYWORDS = {"current_timestamp": "datetime", "current_date": "date", "current_time": "time"}


def install() -> None:
    """Replace them when `sqlite3` is imported."""
    when_imported("sqlite3.dbapi2", _install)


def _integer() -> int:
    return int.from_bytes(sources().random_bytes(8), "big", signed=True)


def _blob(size: Any) -> bytes:
    return sources().random_bytes(max(1, int(size or 0)))


def _install(module: ModuleType) -> None:
    real: Any = module.Connection
    plain = real(":memory:", isolation_level=None, check_same_thread=False)
    known = {name for (name,) in plain.execute("select name from pragma_function_list")}

    def ask(name: str, arguments: tuple[Any, ...]) -> Any:
        marks = ",".join("?" * len(arguments))
        return plain.execute(f"select {name}({marks})", arguments).fetchone()[0]

    def now() -> str:
        seconds, micros = divmod(sources().now, 1_000_000)
        whole = ask("datetime", (seconds, "unixepoch"))
        return f"{whole}.{micros // 1000:03}"

    def timed(name: str, at: int) -> Any:
        def call(*arguments: Any) -> Any:
            given = list(arguments)
            if len(given) == at:
                given.append("now")
            for place in range(at, min(len(given), 2 if name == "timediff" else at + 1)):
                if isinstance(given[place], str) and given[place].strip().lower() == "now":
                    given[place] = now()
            return ask(name, tuple(given))

        return call

    class Connection(real):
        """SQLite's, whose clock and random numbers are the invocation's."""

        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            self.create_function("random", 0, _integer)
            self.create_function("randomblob", 1, _blob)
            for name, at in _TIMES.items():
                if name in known:
                    self.create_function(name, -1, timed(name, at), deterministic=True)
            for keyword, name in _KEYWORDS.items():
                self.create_function(keyword, 0, timed(name, 0))

    Connection.__module__, Connection.__qualname__ = "sqlite3", "Connection"
    connect = module.connect

    def connected(*arguments: Any, **named: Any) -> Any:
        if len(arguments) < 6:
            named.setdefault("factory", Connection)
        return connect(*arguments, **named)

    connected.__name__ = connected.__qualname__ = "connect"
    connected.__doc__ = connect.__doc__
    module.Connection, module.connect = Connection, connected  # type: ignore[attr-defined]
