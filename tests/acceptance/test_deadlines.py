"""An execution whose caller ran out of time is a whole record, too."""

from __future__ import annotations

from tests.acceptance.conftest import Project


def test_what_was_invoked_is_recorded_when_its_caller_runs_out_of_time(project: Project) -> None:
    project.write("schema/1.sql", "CREATE TABLE notes (id int PRIMARY KEY);")
    project.flux("db", "push")
    project.typescript("outer", '    return await ctx.invoke("inner", { id: 7 });', timeout_ms=1500)
    project.typescript(
        "inner",
        "    await ctx.db.transaction(async (tx) => {\n"
        '      await tx.query({ table: "notes", operation: "insert", data: { id: input.id } });\n'
        "      await ctx.sleep(60000);\n"
        "    });",
    )
    with project.serving() as client:
        answer = client.post("/outer", json={})
        assert answer.status_code == 504
        # While the server runs: it is not the end of the process that ends it.
        outer = project.json("trace", answer.headers["x-request-id"])
        (inner,) = outer["children"]
        assert (outer["error"]["type"], outer["host_calls"][0]["status"]) == ("DeadlineExceeded", "abandoned")
        assert (inner["outcome"], inner["status"], inner["error"]["type"]) == ("error", 499, "Cancelled")
        assert inner["input"] == {"id": 7}
        assert [(call["op"], call["status"]) for call in inner["host_calls"]] == [
            ("db.begin", "done"),
            ("db.query", "done"),
            ("sleep", "abandoned"),
        ]
        (change,) = inner["mutations"]
        assert (change["table"], change["after"], change["rolled_back"]) == ("notes", {"id": 7}, True)
        assert project.json("query", "select * from notes") == []
        assert "Cancelled" in project.flux("trace", answer.headers["x-request-id"]).stdout
