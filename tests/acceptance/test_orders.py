"""examples/orders under its 200 requests: what the record says of them, by the CLI and by SQL, to each row.

One drive for the module. The server is stopped before anything is looked at, so all of the record is there.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest

from tests.acceptance.conftest import Project, environment
from tests.acceptance.shop import EXAMPLE, PATIENCE, Row, Shop, drive, provider

REQUESTS = 200


SOURCES = {
    "checkout": "functions/checkout/index.ts",
    "order": "functions/checkout/order.ts",
    "payment": "functions/payment/main.py",
    "send_receipt": "functions/send_receipt/main.py",
}


REFUSED_BY_CONSTRAINT = {"too_many": "stock_is_enough", "twice": "orders_reference_is_new"}


@pytest.fixture(scope="module")
def shop(postgres_url: str, _template: tuple[str, Callable[[str], None]]) -> Iterator[Shop]:
    template, execute = _template
    name = f"{template}_{secrets.token_hex(4)}"
    execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    url = urlunsplit(urlsplit(postgres_url)._replace(path=f"/{name}"))
    folder = Path(tempfile.mkdtemp(prefix="flux-test-", dir="/tmp"))
    folder.chmod(0o755)
    root = folder / "orders"
    shutil.copytree(EXAMPLE, root, ignore=shutil.ignore_patterns(".flux", "__pycache__"))
    shutil.copy(root / ".env.example", root / ".env")
    try:
        with provider() as address:
            more = {"DATABASE_URL": url, "FLUX_MASTER_KEY": "5a" * 32, "PROVIDER_URL": address}
            project = Project(root, environment(**more, PAYMENT_SECONDS=PATIENCE))
            try:
                yield asyncio.run(drive(project, url, address))
            finally:
                project.end()
    finally:
        execute(f'DROP DATABASE "{name}" WITH (FORCE)')
        shutil.rmtree(folder, ignore_errors=True)


def _line(source: str, marker: str) -> int:
    """The number of the one line of a source that holds `marker`."""
    lines = (EXAMPLE / SOURCES[source]).read_text().splitlines()
    (found,) = [number for number, line in enumerate(lines, 1) if marker in line]
    return found


def _place(error: Row) -> tuple[str, int]:
    return error["file"], error["line"]


def _items(sent: Row) -> list[Row]:
    return sorted(json.loads(sent["content"])["items"], key=lambda item: item["sku"])


def _taken(sent: Row) -> list[Row]:
    """The items that were reserved before it ended."""
    reserved: list[Row] = []
    for item in _items(sent):
        if item["sku"] == "tea-unicorn" or item["quantity"] == 1_000_000:
            return reserved
        if sent["kind"] == "last_ones" and sent["status"] == 409:
            return reserved
        reserved.append(item)
    return reserved


def test_every_kind_is_answered_as_it_should_be_and_the_summary_says_what_to_ask(shop: Shop) -> None:
    assert len(shop.sent) == REQUESTS
    lines = shop.summary.splitlines()
    for kind in {sent["kind"] for sent in shop.sent}:
        (row,) = [line for line in lines if line.startswith(f"{kind} ")]
        assert row.split()[1] == str(len(shop.of(kind)))
        ask = [line for line in lines if f"# {kind}: " in line]
        refused = [sent for sent in shop.of(kind) if sent["status"] != 200]
        assert len(ask) == bool(refused)
        for line in ask:
            assert any(sent["request_id"].startswith(line.split()[2]) for sent in refused)
    statuses = Counter(sent["status"] for sent in shop.of("last_ones"))
    assert statuses == {200: 3, 409: len(shop.of("last_ones")) - 3}


def test_each_request_is_one_root_execution_and_nothing_stands_twice(shop: Shop) -> None:
    roots = [row for row in shop.executions.values() if row["trigger"] == "http"]
    assert len(roots) == REQUESTS
    assert {row["request_id"] for row in roots} == {sent["request_id"] for sent in shop.sent}
    assert len({row["trace_id"] for row in roots}) == REQUESTS
    for sent in shop.sent:
        row = shop.executions[sent["request_id"]]
        assert (row["status"], row["parent_request_id"]) == (sent["status"], None)
        assert (row["function"], row["route"], row["method"]) == ("checkout", "/checkout", "POST")
        if row["output"] is not None:
            assert json.loads(row["output"]) == sent["body"]
        if sent["kind"] != "malformed":
            told, kept = json.loads(sent["content"]), json.loads(row["body"])
            told["card"]["holder"] = "[redacted]"
            assert kept == told
    for request_id, calls in shop.calls.items():
        assert [call["status"] for call in calls] == ["done"] * len(calls), request_id
        logs = sum(call["op"] == "log" for call in calls)
        assert logs == 0
        assert len({call["seq"] for call in calls}) == len(calls)
    numbers = [span["span_id"] for spans in shop.spans.values() for span in spans]
    assert len(set(numbers)) == len(numbers)
    invoked = [row for row in shop.executions.values() if row["trigger"] == "invoke"]
    attempts = [row for row in shop.executions.values() if row["trigger"] == "job"]
    assert len(shop.executions) == REQUESTS + len(invoked) + len(attempts)


def test_the_totals_in_sql_are_what_the_driver_saw(shop: Shop) -> None:
    seen = Counter(sent["status"] for sent in shop.sent)
    counted = shop.project.json(
        "query", "select status, count(*) from flux.executions where trigger = 'http' group by 1 order by 1"
    )
    assert [(row["status"], int(row["count"])) for row in counted] == sorted(seen.items())
    outcomes = Counter((row["status"], row["outcome"]) for row in shop.executions.values() if row["method"])
    assert set(outcomes) == {
        *((200, "ok"), (402, "ok"), (409, "ok"), (422, "error"), (500, "error"), (400, "rejected"))
    }
    (sums,) = shop.project.json(
        "query", "select count(*) as orders, sum(total_cents) as cents, count(charge_id) as paid from orders"
    )
    placed = shop.placed()
    assert int(sums["orders"]) == int(sums["paid"]) == len(placed)
    assert int(sums["cents"]) == sum(sent["body"]["cents"] for sent in placed)


def test_stock_adds_up_and_the_recorded_mutations_make_the_tables(shop: Shop) -> None:
    sold: Counter[str] = Counter()
    for sent in shop.placed():
        sold.update({item["sku"]: item["quantity"] for item in _items(sent)})
    now = {row["sku"]: row["quantity"] for row in shop.tables["stock"]}
    assert now == {sku: (3 if sku == "cup-raku" else 10_000) - sold[sku] for sku in now}
    assert now["cup-raku"] == 0

    state: dict[str, dict[str, Any]] = {name: {} for name in shop.tables}
    for mutation in shop.mutations:
        if mutation["rolled_back"]:
            continue
        rows, key = state[mutation["table_name"]], json.dumps(mutation["key"], sort_keys=True)
        assert rows.get(key) == mutation["before"], "a mutation's before is not what stood there"
        rows[key] = mutation["after"]
    for name, rows in shop.tables.items():
        assert sorted(state[name].values(), key=str) == sorted(rows, key=str), name


def test_what_was_rolled_back_is_recorded_so_and_never_visible(shop: Shop) -> None:
    references = {row["reference"]: row["id"] for row in shop.tables["orders"]}
    order_ids = set(references.values())
    for sent in shop.sent:
        made = shop.changed(sent["request_id"])
        assert {row["rolled_back"] for row in made} <= {sent["status"] != 200}
        done = [(row["op"], row["table_name"]) for row in made]
        each = [("UPDATE", "stock"), ("INSERT", "order_items")]
        if sent["kind"] in ("malformed", "invalid", "twice"):
            assert done == []
            continue
        expected = [("INSERT", "orders"), *each * len(_taken(sent))]
        assert done == expected + [("UPDATE", "orders")] * (sent["status"] == 200), sent["kind"]
        assert made[0]["after"]["reference"] == sent["reference"]
        assert len({row["xid"] for row in made}) == 1
        taken = [
            (row["key"], row["before"]["quantity"] - row["after"]["quantity"])
            for row in made
            if row["table_name"] == "stock"
        ]
        assert taken == [({"sku": item["sku"]}, item["quantity"]) for item in _taken(sent)]
        # The call that did it is known of each: by its seq, or by the numbers it encloses.
        calls = shop.calls[sent["request_id"]]
        for row in made:
            assert [
                call["op"]
                for call in calls
                if call["seq"] == row["seq"]
                or (row["seq"] is None and call["first_n"] and call["first_n"] <= row["n"] <= call["last_n"])
            ] in (["db.query"], ["db.sql"])
        if sent["status"] == 200:
            assert references[sent["reference"]] == made[0]["after"]["id"] == int(sent["body"]["order"])
        else:
            assert sent["reference"] not in references
            assert made[0]["after"]["id"] not in order_ids
        ends = [call["op"] for call in calls if call["op"] in ("db.begin", "db.commit", "db.rollback")]
        assert ends == ["db.begin", "db.commit" if sent["status"] == 200 else "db.rollback"]


def test_money_was_taken_for_the_orders_that_exist_and_for_no_others(shop: Shop) -> None:
    orders = {row["reference"]: (row["charge_id"], row["total_cents"]) for row in shop.tables["orders"]}
    charges = shop.ledger["charges"]
    assert orders == {key: (charge["id"], charge["amount"]) for key, charge in charges.items()}
    assert set(orders) == {sent["reference"] for sent in shop.placed()}


def test_an_invoked_payment_hangs_in_its_checkouts_trace(shop: Shop) -> None:
    came_to_pay = ("paid", "slow", "busy_mail", "declined", "broken", "silent")
    for sent in shop.sent:
        parent = shop.executions[sent["request_id"]]
        children = shop.children(sent["request_id"], "invoke")
        invokes = [call for call in shop.calls.get(sent["request_id"], []) if call["op"] == "invoke"]
        paying = sent["kind"] in came_to_pay or (sent["kind"], sent["status"]) == ("last_ones", 200)
        assert len(children) == len(invokes) == int(paying), sent["kind"]
        for child, call in zip(children, invokes, strict=True):
            assert (child["function"], child["trace_id"]) == ("payment", parent["trace_id"])
            root = shop.root(child)
            assert (call["span_id"], root["parent_span_id"]) == (child["span_id"], call["parent_span_id"])
            assert root["trace_id"] == parent["trace_id"]
            assert root["parent_span_id"] in {span["span_id"] for span in shop.spans[sent["request_id"]]}
            asked = json.loads(call["arguments"])
            assert asked["name"] == "payment"
            assert json.loads(child["body"]) == asked["payload"]
            assert asked["payload"]["reference"] == sent["reference"]
            if call["error"] is None:
                assert call["result"] == child["output"]
            else:
                assert call["error"]["detail"] == {"request_id": child["request_id"], "status": "500"}


def test_each_order_has_one_receipt_and_its_job_links_to_what_pushed_it(shop: Shop) -> None:
    orders = {row["id"]: row for row in shop.tables["orders"]}
    receipts = {row["order_id"]: row["message_id"] for row in shop.tables["receipts"]}
    assert len(shop.tables["receipts"]) == len(receipts) == len(orders)
    messages = shop.ledger["messages"]
    assert receipts == {
        order["id"]: messages[f"receipt-{order['reference']}"]["id"] for order in orders.values()
    }
    assert len(messages) == len(orders)
    assert len(shop.jobs) == len(orders)
    for sent in shop.placed():
        (push,) = [call for call in shop.calls[sent["request_id"]] if call["op"] == "queue.push"]
        job_id = json.loads(push["result"])["id"]
        (job,) = [job for job in shop.jobs if job["id"] == job_id]
        assert (job["pushed_by"], job["pushed_seq"], job["status"]) == (
            sent["request_id"],
            push["seq"],
            "done",
        )
        assert json.loads(job["payload"]) == {"order": sent["body"]["order"]}
        attempts = sorted(shop.children(sent["request_id"], "job"), key=lambda row: row["job_attempt"])
        assert [row["job_attempt"] for row in attempts] == list(range(1, len(attempts) + 1))
        assert len(attempts) == (2 if sent["kind"] == "busy_mail" else 1)
        assert [row["outcome"] for row in attempts] == ["error"] * (len(attempts) - 1) + ["ok"]
        assert job["last_request_id"] == attempts[-1]["request_id"]
        (producer,) = [s for s in shop.spans[sent["request_id"]] if s["span_id"] == push["span_id"]]
        assert (producer["kind"], producer["attributes"]["messaging.message.id"]) == ("PRODUCER", job_id)
        for row in attempts:
            root = shop.root(row)
            assert (root["kind"], root["name"]) == ("CONSUMER", "process send_receipt")
            (link,) = root["links"]
            assert (link["span_id"], link["trace_id"]) == (producer["span_id"], producer["trace_id"])
            assert row["trace_id"] != producer["trace_id"]
            (received,) = [m for m in [shop.changed(row["request_id"])] if len(m) == (row["outcome"] == "ok")]
            assert [(m["op"], m["table_name"]) for m in received] in ([], [("INSERT", "receipts")])
        if len(attempts) == 2:
            error = attempts[0]["error"]
            assert error["type"] == "HTTPStatusError"
            assert _place(error) == (SOURCES["send_receipt"], _line("send_receipt", "raise_for_status()"))


def test_what_was_withheld_stands_nowhere_in_the_record_and_reached_the_provider(shop: Shop) -> None:
    assert "sk_test_orders_example" not in shop.everything
    assert "Lovegood" not in shop.everything
    assert any("holder" in sent["content"] for sent in shop.of("malformed"))
    assert {charge["card"]["holder"].split()[1] for charge in shop.ledger["charges"].values()} == {"Lovegood"}
    read = [call for calls in shop.calls.values() for call in calls if call["op"] == "secrets.get"]
    assert len({call["result"] for call in read}) == 1
    assert json.loads(read[0]["result"])["name"] == "PROVIDER_KEY"


def _why(shop: Shop, kind: str) -> tuple[Row, Row, Row]:
    """A failing request of a kind, what `why` and what `trace` say of it."""
    sent = next(sent for sent in shop.of(kind) if sent["status"] != 200)
    why = shop.project.json("why", sent["request_id"][:12])
    trace = shop.project.json("trace", sent["request_id"])
    assert trace["request_id"] == why["execution"]["request_id"] == sent["request_id"]
    assert why["failed"] is True
    assert why["data_changes"] == trace["mutations"]
    assert [change["rolled_back"] for change in why["data_changes"]] == [True] * len(trace["mutations"])
    return sent, why, trace


def _names(why: Row) -> list[str]:
    return [span["name"] for span in why["chain"]]


def test_a_broken_provider(shop: Shop) -> None:
    message = 'the provider answered 500: {"message": "the ledger is being repaired"}'
    thrown = _line("payment", "raise ProviderFailed")
    for sent in shop.of("broken"):
        row = shop.executions[sent["request_id"]]
        assert (row["status"], row["outcome"]) == (500, "error")
        assert (row["error"]["type"], row["error"]["message"]) == ("ProviderFailed", message)
        assert _place(row["error"]) == (SOURCES["checkout"], _line("checkout", "ctx.invoke<Payment>"))
        (child,) = shop.children(sent["request_id"], "invoke")
        assert (child["status"], child["outcome"]) == (500, "error")
        assert (child["error"]["type"], *_place(child["error"])) == (
            "ProviderFailed",
            SOURCES["payment"],
            thrown,
        )
        (fetch,) = [call for call in shop.calls[child["request_id"]] if call["op"] == "fetch"]
        asked, got = json.loads(fetch["arguments"]), json.loads(fetch["result"])
        assert (asked["method"], got["status"], fetch["error"]) == ("POST", 500, None)
        assert ["idempotency-key", sent["reference"]] in asked["headers"]
        assert ["authorization", "[redacted]"] in asked["headers"]
        assert json.loads(asked["body"])["card"] == {"token": "card_broken", "holder": "[redacted]"}
        (span,) = [s for s in shop.spans[child["request_id"]] if s["span_id"] == fetch["span_id"]]
        assert (span["kind"], span["status"], span["attributes"]["http.response.status_code"]) == (
            *("CLIENT", "ERROR"),
            500,
        )
    sent, why, trace = _why(shop, "broken")
    assert (why["root_cause"]["type"], why["root_cause"]["message"]) == ("ProviderFailed", message)
    assert _place(why["location"]) == (SOURCES["payment"], thrown)
    assert "raise ProviderFailed" in why["location"]["source"]
    assert _names(why) == ["POST /checkout", "checkout", "invoke payment", "payment", "POST"]
    assert why["failing_call"]["op"] == "fetch"
    assert why["failing_call"]["result"]["status"] == 500
    assert why["previous_success"] in {placed["request_id"] for placed in shop.placed()} | {None}
    (child,) = trace["children"]
    assert why["root_cause"]["request_id"] == child["request_id"]
    page = shop.project.flux("why", sent["request_id"]).stdout
    assert f"error[ProviderFailed]: {message}" in page
    assert f"--> {SOURCES['payment']}:{thrown}" in page


def test_a_silent_provider(shop: Shop) -> None:
    asked_at = _line("payment", "answer = await provider.post(")
    for sent in shop.of("silent"):
        row = shop.executions[sent["request_id"]]
        assert (row["status"], row["outcome"], row["error"]["type"]) == (500, "error", "ReadTimeout")
        assert row["error"]["message"].endswith(f"/charges: no answer within {PATIENCE} s")
        assert row["duration_ms"] >= float(PATIENCE) * 1000
        (child,) = shop.children(sent["request_id"], "invoke")
        assert (child["error"]["type"], *_place(child["error"])) == (
            "ReadTimeout",
            SOURCES["payment"],
            asked_at,
        )
        (fetch,) = [call for call in shop.calls[child["request_id"]] if call["op"] == "fetch"]
        assert (fetch["result"], fetch["status"], fetch["error"]["type"]) == (None, "done", "TimeoutError")
        assert fetch["error"]["detail"] == {"phase": "read"}
        assert json.loads(fetch["arguments"])["timeout"]["read"] == float(PATIENCE) * 1000
        (span,) = [s for s in shop.spans[child["request_id"]] if s["span_id"] == fetch["span_id"]]
        assert (span["status"], span["attributes"]["error.type"]) == ("ERROR", "TimeoutError")
        assert sent["reference"] not in shop.ledger["charges"]
    _, why, _ = _why(shop, "silent")
    assert why["root_cause"]["type"] == "TimeoutError"
    assert _place(why["location"]) == (SOURCES["payment"], asked_at)
    assert why["failing_call"]["error"]["detail"] == {"phase": "read"}
    (suggestion,) = why["suggestions"]
    assert suggestion["text"].startswith("Give 127.0.0.1:")
    assert "as long as it allows" in suggestion["reason"]


def test_a_declined_card(shop: Shop) -> None:
    for sent in shop.of("declined"):
        row = shop.executions[sent["request_id"]]
        assert (row["status"], row["outcome"], row["error"]) == (402, "ok", None)
        assert sent["body"] == {"error": {"message": "The card was declined: insufficient funds."}}
        (invoke,) = [call for call in shop.calls[sent["request_id"]] if call["op"] == "invoke"]
        assert json.loads(invoke["result"]) == {"status": "declined", "reason": "insufficient funds"}
        (child,) = shop.children(sent["request_id"], "invoke")
        assert (child["status"], child["outcome"]) == (200, "ok")
    sent, why, _ = _why(shop, "declined")
    assert (why["refused"], why["location"], why["suggestions"]) == (True, None, [])
    assert why["root_cause"]["type"] == "402"
    assert why["failing_call"]["result"]["status"] == 402
    assert _names(why)[-2:] == ["payment", "POST"]
    page = shop.project.flux("why", sent["request_id"]).stdout
    assert page.startswith("refused[402]: POST http://127.0.0.1:")
    assert "The card was declined: insufficient funds." in page


@pytest.mark.parametrize(("kind", "constraint"), REFUSED_BY_CONSTRAINT.items())
def test_a_constraint(shop: Shop, kind: str, constraint: str) -> None:
    condition, op = {
        "too_many": ("check_violation", "db.sql"),
        "twice": ("unique_violation", "db.query"),
    }[kind]
    for sent in shop.of(kind):
        row = shop.executions[sent["request_id"]]
        assert (row["status"], row["outcome"], row["error"]) == (409, "ok", None)
        (failed,) = [call for call in shop.calls[sent["request_id"]] if call["error"] is not None]
        assert (failed["op"], failed["status"], failed["result"]) == (op, "done", None)
        detail = failed["error"]["detail"]
        assert (failed["error"]["type"], detail["constraint"]) == (condition, constraint)
        (span,) = [s for s in shop.spans[sent["request_id"]] if s["span_id"] == failed["span_id"]]
        assert (span["kind"], span["status"]) == ("CLIENT", "ERROR")
        if kind == "too_many":
            assert json.loads(failed["arguments"])["params"][1] == 1_000_000
            assert detail["detail"].startswith(
                f"Failing row contains ({_items(sent)[len(_taken(sent))]['sku']}"
            )
        else:
            assert detail["detail"] == f"Key (reference)=({sent['reference']}) already exists."
    sent, why, _ = _why(shop, kind)
    assert (why["refused"], why["root_cause"]["type"]) == (True, condition)
    assert _names(why)[:3] == ["POST /checkout", "checkout", "transaction"]
    assert why["failing_call"]["error"]["detail"]["constraint"] == constraint
    assert why["chain"][-1]["span_id"] == why["failing_call"]["span_id"] == why["root_cause"]["span_id"]
    if kind == "twice":
        first = next(s for s in shop.placed() if s["reference"] == sent["reference"])
        (writer,) = why["provenance"]
        assert (writer["table"], writer["column"]) == ("orders", "reference")
        assert (writer["value"], writer["request_id"]) == (sent["reference"], first["request_id"])


@pytest.mark.parametrize(
    ("kind", "source", "marker", "fields"),
    [
        ("unknown", "checkout", "nothing is called", {"items": "nothing is called tea-unicorn"}),
        ("invalid", "order", "throw new ValidationError(wrong)", None),
    ],
)
def test_a_validation_error(
    shop: Shop, kind: str, source: str, marker: str, fields: dict[str, str] | None
) -> None:
    place = SOURCES[source], _line(source, marker)
    for sent in shop.of(kind):
        row = shop.executions[sent["request_id"]]
        assert (row["status"], row["outcome"], row["error"]["type"]) == (422, "error", "ValidationError")
        assert _place(row["error"]) == place
        assert row["error"]["fields"] == sent["body"]["error"]["fields"]
        if fields is not None:
            assert row["error"]["fields"] == fields
    _, why, _ = _why(shop, kind)
    assert _place(why["location"]) == place
    assert marker in why["location"]["source"]
    (suggestion,) = why["suggestions"]
    assert suggestion["text"].startswith("Correct `")


def test_malformed_json(shop: Shop) -> None:
    for sent in shop.of("malformed"):
        row = shop.executions[sent["request_id"]]
        assert (row["status"], row["outcome"], row["error"]["type"]) == (400, "rejected", "BadJSON")
        assert re.search(r"at line 1, column \d+\.$", row["error"]["message"])
        assert row["body"] in (sent["content"].encode(), b'"[redacted]"')
        assert sent["request_id"] not in shop.calls
        assert [span["kind"] for span in shop.spans[sent["request_id"]]] == ["SERVER"]
    _, why, _ = _why(shop, "malformed")
    assert (why["root_cause"]["type"], why["location"], why["previous_success"]) == ("BadJSON", None, None)


def test_the_history_of_a_product_and_the_blame_of_an_order(shop: Shop) -> None:
    history = shop.project.json("state", "history", "stock", "--id", "tea-assam")
    told = [(m["op"], m["rolled_back"], m["request_id"]) for m in history]
    assert told == [
        (m["op"], m["rolled_back"], m["request_id"] if m["origin"] == "flux" else None)
        for m in shop.mutations
        if m["table_name"] == "stock" and m["key"] == {"sku": "tea-assam"}
    ]
    kept = [m for m in history if not m["rolled_back"]]
    assert any(m["rolled_back"] for m in history)
    assert [m["before"] for m in kept] == [None, *(m["after"] for m in kept[:-1])]
    assert kept[-1]["after"] in shop.tables["stock"]
    sent = next(s for s in shop.placed() if s["kind"] == "paid")
    blame = shop.project.json("state", "blame", "orders", "--id", sent["body"]["order"])
    assert {entry["request_id"] for entry in blame.values()} == {sent["request_id"]}
    assert (blame["charge_id"]["value"], blame["reference"]["value"]) == (
        sent["body"]["charge"],
        sent["reference"],
    )
