"""Routes: which templates are right, and which function a request finds."""

from __future__ import annotations

import sys

import pytest

from flux.runtime.routes import Match, NotAllowed, Routes, parse


def table(**routes: str) -> Routes:
    """name="GET,PUT /path" for each function."""
    found = Routes()
    for name, text in routes.items():
        methods, template = text.split(" ")
        assert found.add(name, methods.split(","), parse(template)) == {}
    return found


def test_a_static_route_is_found_with_and_without_its_trailing_slash() -> None:
    routes = table(hello="POST /hello", home="GET /")
    assert routes.match("POST", "/hello") == Match("hello", {})
    assert routes.match("POST", "/hello/") == Match("hello", {})
    assert routes.match("GET", "/") == Match("home", {})
    assert routes.match("POST", "/hello//") is None
    assert routes.match("POST", "/hell") is None


def test_a_parameter_is_decoded_after_the_path_was_split() -> None:
    routes = table(user="GET /users/{id}/posts/{post}")
    assert routes.match("GET", "/users/a%2Fb/posts/%C3%A9%20x/") == Match(
        "user", {"id": "a/b", "post": "é x"}
    )
    assert routes.match("GET", "/users//posts/1") is None
    assert routes.match("GET", "/users/%ff/posts/1") is None


def test_a_literal_wins_over_a_parameter_and_gives_way_where_the_rest_does_not_fit() -> None:
    routes = table(me="GET /users/me", user="GET,DELETE /users/{id}", posts="GET /users/{id}/posts")
    assert routes.match("GET", "/users/me") == Match("me", {})
    assert routes.match("GET", "/users/7") == Match("user", {"id": "7"})
    assert routes.match("DELETE", "/users/me") == Match("user", {"id": "me"})
    assert routes.match("GET", "/users/me/posts") == Match("posts", {"id": "me"})


def test_a_path_with_other_methods_names_them() -> None:
    routes = table(user="GET /users/{id}", create="POST /users", me="PUT /users/me")
    assert routes.match("PATCH", "/users/me") == NotAllowed(None, ("GET", "HEAD", "PUT"))
    assert routes.match("GET", "/users") == NotAllowed(None, ("POST",))


def test_head_is_answered_by_get_unless_a_function_asks_for_it() -> None:
    routes = table(read="GET /a", probe="HEAD /b", full="GET /b", user="GET /users/{id}")
    assert routes.match("HEAD", "/a") == Match("read", {})
    assert routes.match("HEAD", "/b") == Match("probe", {})
    assert routes.match("HEAD", "/users/1") == Match("user", {"id": "1"})


def test_a_literal_may_be_written_decoded_or_encoded() -> None:
    routes = table(cafe="GET /café", space="GET /a%20b")
    assert routes.match("GET", "/caf%C3%A9") == Match("cafe", {})
    assert routes.match("GET", "/a%20b") == Match("space", {})


def test_two_functions_with_one_method_and_shape_conflict() -> None:
    routes = table(one="GET,PUT /users/{id}")
    assert routes.add("two", ["PUT", "POST"], parse("/users/{user}")) == {"PUT": "one"}
    assert routes.match("POST", "/users/1") == NotAllowed(None, ("GET", "HEAD", "PUT"))


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("users", "begins with"),
        ("/users/{id", "whole segment"),
        ("/x-{id}", "whole segment"),
        ("/{9}", "not a parameter"),
        ("/{a}/{a}", "twice"),
        ("/a//b", "empty segment"),
        ("//", "empty segment"),
        ("/a?b", "character"),
        ("/a b", "character"),
        ("/a/../b", "remove"),
        ("/%ff", "UTF-8"),
        ("/_flux", "keeps for itself"),
        ("/_flux/api", "keeps for itself"),
        ("/%5Fflux/api", "keeps for itself"),
    ],
)
def test_a_bad_template_is_refused_with_its_reason(template: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse(template)


def test_a_static_route_is_found_without_looking_at_the_others() -> None:
    routes = table(**{f"f{n}": f"POST /f{n}" for n in range(200)}, g="POST /g/{id}")
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        found = routes.match("POST", "/f150")
    finally:
        sys.setprofile(None)
    assert isinstance(found, Match)
    assert calls <= 3
