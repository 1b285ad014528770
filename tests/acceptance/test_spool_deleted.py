"""`rm -r .flux/spool` while the server runs: who was answered has a record, and doctor says what happened."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

from tests.acceptance.conftest import Project


def test_a_spool_deleted_under_load_loses_no_answered_request(project: Project) -> None:
    project.typescript("work", "    await ctx.sleep(input % 7);\n    return input;")
    spools = project.root / ".flux" / "spool"
    with project.serving() as client, ThreadPoolExecutor(8) as threads:

        def one(n: int) -> str | None:
            if n % 100 == 50:
                shutil.rmtree(spools, ignore_errors=True)
            answer = client.post("/work", json=n)
            assert answer.status_code in (200, 503), answer.text
            return str(answer.headers["x-request-id"]) if answer.status_code == 200 else None

        answered = {request_id for request_id in threads.map(one, range(400)) if request_id}
        assert len(answered) > 300
        shutil.rmtree(spools)
        idle = project.json("doctor")["checks"]
        [spool] = [check for check in idle if check["name"] == "spool"]
        assert (spool["level"], "made anew" in spool["detail"]) == ("warning", True), spool
        last = client.post("/work", json=1).headers["x-request-id"]
        assert project.json("trace", last)["outcome"] == "ok"
        shutil.rmtree(spools)
        spools.write_text("in the way")
        refused = client.post("/work", json=1)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        again = client.post("/work", json=1)
        assert again.status_code == 503
        told = json.loads(project.flux("doctor", "--json", code=1).stdout)
        assert "can't be made anew" in next(c for c in told["checks"] if c["name"] == "spool")["detail"]
        spools.unlink()
        back = client.post("/work", json=1)
        assert back.status_code == 200
        ids = answered | {last, back.headers["x-request-id"]}
        assert project.json("trace", back.headers["x-request-id"])["outcome"] == "ok"
        assert project.json("trace", refused.headers["x-request-id"])["status"] == 503
    rows = project.json("query", "SELECT request_id FROM flux.executions")
    assert len(rows) == len({row["request_id"] for row in rows})
    assert ids <= {row["request_id"] for row in rows}
