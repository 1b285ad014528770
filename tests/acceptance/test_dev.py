"""`flux dev` while somebody writes code."""

from __future__ import annotations

import httpx

from tests.acceptance.conftest import Project, eventually


def test_dev_serves_a_changed_and_a_new_function_and_stores_a_deployment_for_each(project: Project) -> None:
    project.typescript("hello", "    return 1;")
    with project.serving("dev") as client:
        server = project.servers[-1]
        first = client.post("/hello")
        assert first.json() == 1
        project.typescript("hello", "    return 2;")
        server.wait_for("hello changed")
        second = client.post("/hello")
        assert second.json() == 2
        project.write("functions/late/main.py", "async def handler(input, ctx):\n    return 'late'\n")
        server.wait_for("late added")
        assert client.post("/late").json() == "late"
        deployments = [
            project.json("trace", r.headers["x-request-id"])["deployment"] for r in (first, second)
        ]
        assert deployments[0] != deployments[1]
        rows = project.json("query", "select function from flux.deployments order by created_at")
        assert [row["function"] for row in rows] == ["hello", "hello", "late"]


def test_a_syntax_error_is_shown_with_its_place_and_takes_no_other_function_down(project: Project) -> None:
    project.typescript("fine", "    return 1;")
    project.typescript("broken", "    return 1;")
    with project.serving("dev") as client:
        server = project.servers[-1]
        project.typescript("broken", "    const x = ;\n    return x;")
        server.wait_for(r"broken functions/broken/index\.ts:6:15")
        assert client.post("/fine").json() == 1
        answer = client.post("/broken")
        assert answer.status_code == 500
        assert answer.json()["error"]["at"] == "functions/broken/index.ts:6:15"
        project.typescript("broken", "    return 3;")
        eventually(lambda: client.post("/broken").json() == 3)
        project.write("functions/bad/main.py", "def handler(input, ctx)\n    return 1\n")
        server.wait_for(r"bad functions/bad/main\.py:1")


def test_dev_lists_the_functions_and_shows_the_right_curl_line(project: Project) -> None:
    project.typescript("hello", "    return 1;")
    with project.serving("dev") as client:
        [function] = client.get("/").json()["functions"]
        assert (function["name"], function["route"], function["methods"]) == ("hello", "/hello", ["POST"])
        page = client.get("/", headers={"accept": "text/html"})
        assert "text/html" in page.headers["content-type"]
        assert "/hello" in page.text
        refused = client.get("/hello")
        assert refused.status_code == 405
        assert "curl -X POST" in refused.json()["error"]["message"]
        assert client.get("/_flux/api/v1/functions").json()[0]["name"] == "hello"
        rebound = client.get("/_flux/api/v1/functions", headers={"host": "evil.example"})
        assert rebound.status_code == 403


def test_a_withheld_column_is_withheld_over_http_too(project: Project) -> None:
    project.write("flux.toml", 'name = "app"\nredact_columns = ["people.phone"]\n')
    project.write("schema/001.sql", "CREATE TABLE people (id int PRIMARY KEY, phone text);\n")
    project.typescript("add", "    await ctx.db.sql(\"insert into people values (1, '555-0100')\");")
    with project.serving("dev") as client:
        request_id = client.post("/add").headers["x-request-id"]
        over_http = client.get(f"/_flux/api/v1/executions/{request_id}").json()
        assert over_http["mutations"] == project.json("trace", request_id)["mutations"]
        assert over_http["mutations"][0]["after"] == {"id": 1, "phone": "[redacted]"}


def test_a_taken_port_is_named_with_its_owner_and_the_line_to_use_another(project: Project) -> None:
    project.typescript("hello", "    return 1;")
    with project.serving("dev") as client:
        port = httpx.URL(str(client.base_url)).port
        assert port is not None
        refused = project.flux("dev", "--port", str(port), code=1)
        assert f"Port {port} is taken by" in refused.stderr
        assert f"pid {project.servers[-1].process.pid}" in refused.stderr
        assert f"--port {port + 1}" in refused.stderr
        assert "Traceback" not in refused.stderr


def test_dev_applies_schema_files_as_they_come_and_names_an_edited_one(project: Project) -> None:
    project.typescript(
        "hello", "    return (await ctx.db.sql('select count(*)::int as n from things'))[0].n;"
    )
    with project.serving("dev") as client:
        server = project.servers[-1]
        project.write("schema/001_things.sql", "CREATE TABLE things (id int PRIMARY KEY);\n")
        server.wait_for(r"schema/001_things\.sql applied")
        assert client.post("/hello").json() == 0
        project.write("schema/001_things.sql", "CREATE TABLE things (id int PRIMARY KEY, more text);\n")
        server.wait_for(r"001_things\.sql")
