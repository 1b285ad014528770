"""The first minute, as a quickstart would tell it, on the embedded Postgres."""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.conftest import Project, environment


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Project]:
    """A folder without anything, and no database but what Flux starts."""
    project = Project(tmp_path, environment())
    yield project
    project.end()


def test_init_dev_write_a_function_trace_and_why_within_a_minute(fresh: Project) -> None:
    began = time.monotonic()
    fresh.flux("init", "my-app")
    fresh.root = fresh.root / "my-app"
    for path in (
        "flux.toml",
        ".env.example",
        ".gitignore",
        "tsconfig.json",
        "README.md",
        "types/flux-functions.d.ts",
    ):
        assert (fresh.root / path).is_file(), path
    with fresh.serving("dev") as client:
        server = fresh.servers[-1]
        assert "schema/001_users.sql applied" in server.text()
        fresh.typescript("hello", "    return { hello: input.name };")
        server.wait_for("hello added")
        assert client.post("/hello", json={"name": "Ada"}).json() == {"hello": "Ada"}
        trace = fresh.flux("trace", "last").stdout
        assert "POST /hello" in trace
        assert "200" in trace

        suggested = shlex.split(server.wait_for(r"try +(curl .*)")[1])
        body = suggested[suggested.index("-d") + 1]
        assert f"{client.base_url}/create_user" in suggested
        made = client.post("/create_user", content=body, headers={"content-type": "application/json"})
        assert (made.status_code, made.json()["userId"]) == (200, "1")
        assert made.json()["email"] == "ada@example.com"
        assert client.post("/create_user", json={"email": "ada@example.com"}).status_code == 500
        why = fresh.flux("why", "last").stdout
        assert "unique_violation" in why
        assert "functions/create_user/index.ts:11" in why
        assert "ada@example.com" in why
    assert time.monotonic() - began < 60

    # The job that create_user pushed has run, in Python, and is a record too.
    history = fresh.json("state", "history", "users", "--id", "1")
    assert [(m["op"], m["changed"]) for m in history][1:] == [("UPDATE", ["welcomed_at"])]
    writer = fresh.json("trace", history[1]["request_id"])
    assert (writer["trigger"], writer["function"], writer["outcome"]) == ("job", "send_welcome", "ok")
    blame = fresh.json("state", "blame", "users", "--id", "1")
    assert blame["welcomed_at"]["request_id"] == history[1]["request_id"]
    assert blame["email"]["request_id"] == made.headers["x-request-id"]


def test_the_template_type_checks_in_an_editor(fresh: Project) -> None:
    from deno import find_deno_bin

    fresh.flux("init", "app")
    root = fresh.root / "app"
    (root / "deno.json").write_text(
        '{"imports": {"@flux/functions": "./types/flux-functions.d.ts"},'
        ' "compilerOptions": {"lib": ["esnext", "dom"], "strict": true}}'
    )
    done = subprocess.run(
        [find_deno_bin(), "check", "--no-remote", "functions/create_user/index.ts"],
        cwd=root,
        env={**fresh.environment, "DENO_DIR": str(root / ".deno")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_invoke_works_with_and_without_a_server(fresh: Project) -> None:
    fresh.root = fresh.root / "app"
    fresh.write("flux.toml", "")
    fresh.typescript("double", "    return input * 2;")
    alone = fresh.flux("invoke", "double", "21")
    assert alone.stdout.strip() == "42"
    with fresh.serving("dev"):
        assert fresh.flux("invoke", "double", "4").stdout.strip() == "8"
        assert fresh.flux("invoke", "nothing", "4", code=1).stdout.count("NotFound") == 1
        refused = fresh.flux("invoke", "double", "{oops", code=2)
        assert "not valid JSON" in refused.stderr
    record = fresh.json("trace", alone.stderr.split()[0])
    assert (record["trigger"], record["input"], record["output"]) == ("invoke", 21, 42)


def test_help_is_quick_and_lists_every_command(fresh: Project) -> None:
    text = fresh.flux("--help").stdout
    for command in (
        "init",
        "dev",
        "serve",
        "invoke",
        "tail",
        "logs",
        "trace",
        "why",
        "state",
        "db",
        "query",
        "doctor",
    ):
        assert f"  {command} " in text
        assert fresh.flux(command, "--help").stdout
