"""The line that `flux dev` suggests: it works as it is printed."""

from __future__ import annotations

import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from flux.config import Config
from flux.gateway.listing import curl, first
from flux.runtime.registry import Registry, Served

CONFIG = Config(root=Path("/app"))
JSON = ["-H", "content-type: application/json", "-d"]


def served(route: str, *methods: str, name: str = "f", failed: bool = False, **config: Any) -> Served:
    return cast(
        Served,
        SimpleNamespace(
            name=name,
            route=route,
            methods=methods or ("POST",),
            failure=Exception() if failed else None,
            deployment=SimpleNamespace(config=config),
        ),
    )


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (served("/a"), ["-X", "POST", "/a", *JSON, "{}"]),
        (served("/a", example={"e": "it's ä"}), ["-X", "POST", "/a", *JSON, '{"e": "it\'s ä"}']),
        (served("/a", example=[1]), ["-X", "POST", "/a", *JSON, "[1]"]),
        (
            served("/a/{id}/{b}", "PUT", example={"b": "x/y", "c": 1}),
            ["-X", "PUT", "/a/1/x%2Fy", *JSON, '{"c": 1}'],
        ),
        (served("/a", "GET"), ["/a"]),
        (served("/a/{id}", "GET", example={"id": 7, "q": "a b"}), ["/a/7?q=a+b"]),
        (served("/a", "HEAD"), ["-I", "/a"]),
    ],
)
def test_the_line_carries_the_example(function: Served, words: list[str]) -> None:
    wanted = [f"http://127.0.0.1:4000{word}" if word.startswith("/") else word for word in words]
    assert shlex.split(curl(CONFIG, function)) == ["curl", *wanted]


def test_a_path_that_was_asked_for_is_kept() -> None:
    assert curl(CONFIG, served("/a/{id}", "GET", "PUT"), "GET", "/a/9") == "curl http://127.0.0.1:4000/a/9"


def test_the_first_to_try_needs_no_input_or_has_an_example() -> None:
    plain, param = served("/a", name="plain"), served("/p/{id}", "GET", name="param")
    given, get = served("/b", name="given", example={"x": 1}), served("/g", "GET", name="get")
    broken = served("/h", "GET", name="broken", failed=True)

    def tried(*functions: Served) -> Served | None:
        return first(cast(Registry, SimpleNamespace(functions={one.name: one for one in functions})))

    assert tried(plain, param, given, get) is get
    assert tried(broken, plain, given) is given
    assert tried(plain, param) is plain
    assert tried(broken) is None
