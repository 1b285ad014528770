"""The program of `flux trace debug`, driven by its keys; and the page that `--at` prints."""

from __future__ import annotations

import json
from typing import Any

import pytest
from rich.text import Text as RichText
from textual.widgets import Input, Static

from flux.cli.debugger.app import Debugger
from flux.cli.debugger.colours import is_light
from flux.cli.debugger.step_list import StepList
from flux.cli.render.step import page
from flux.errors import StoreError
from flux.query import DebugStep, Steps, Writer
from tests.unit.cli import shapes
from tests.unit.query.test_steps import bundle, select

HOSTILE = "\x1b[2J\x1b]52;c;AAAA\x07\u202egnp.exe\r\n[bold]x[/bold] \ud800"


def shop(**values: Any) -> Steps:
    """A sale of one transaction, whose payment fails."""
    calls = [
        shapes.call(1, "db.begin", {}, xid="1"),
        select(2, tx=1, xid="1"),
        shapes.call(
            4, "db.query", {"table": "stock", "operation": "update", "data": {"qty": 4}},
            {"rows": [{"id": 3, "note": "x" * 900}], "count": 1}, tx=1, xid="1",
        ),
        shapes.call(5, "db.commit", {}, tx=1, xid="1"),
        shapes.call(6, "fetch", {"url": "https://pay.test/charge"}, error=shapes.error("REFUSED", "not now")),
    ]  # fmt: skip
    given: dict[str, Any] = {
        "host_calls": calls,
        "logs": [shapes.log(3, 3, "info", "in stock", {"qty": 5})],
        "mutations": [shapes.mutation("UPDATE", {"id": 3}, {"id": 3, "qty": 5}, {"id": 3, "qty": 4}, seq=4)],
        "error": shapes.failure("Error", "no", file="functions/buy/index.ts", line=8, column=9),
        "outcome": "error", "status": 500, "output": None,
    } | values  # fmt: skip
    return Steps(shapes.trace(**given), bundle())


async def nobody(step: DebugStep) -> list[Writer]:
    """No writer is known."""
    return []


def shown(app: Debugger) -> str:
    """What the panes show, the hidden ones left out."""
    parts = []
    for pane in app.screen.query(Static):
        if pane.display:
            visual = pane.content
            parts.append(visual.plain if isinstance(visual, RichText) else str(visual))
    return "\n".join(parts)


async def test_keys_step_forward_and_back_and_to_the_ends() -> None:
    app = Debugger(shop(), nobody)
    async with app.run_test(size=(100, 40)) as pilot:
        seen = [app.current.step]
        for key in ("n", "right", "down", "p", "left", "up", "up", "G", "n", "g", "pagedown", "pageup"):
            await pilot.press(key)
            seen.append(app.current.step)
        assert seen == [1, 2, 3, 4, 3, 2, 1, 1, 8, 8, 1, 8, 1]


async def test_a_step_shows_its_line_of_code_its_values_its_rows_and_the_logs() -> None:
    app = Debugger(shop(), nobody)
    async with app.run_test(size=(160, 40)) as pilot:
        for _ in range(4):
            await pilot.press("n")
        text = shown(app)
        assert "step 5 of 8" in text
        assert '▶ 4   await ctx.db.query({ table: "stock"' in text
        assert '"operation": "update"' in text
        assert "qty 5 → 4" in text
        assert 'in stock  {"qty": 5}' in text


async def test_the_first_screen_and_a_resized_one_use_the_whole_width() -> None:
    app = Debugger(shop(), nobody)
    async with app.run_test(size=(160, 40)) as pilot:
        await pilot.pause()
        assert "step 1 of 8  start  after 0 µs" in shown(app)
        assert 'operation: "update", data: { qty: row.qty - 1 } });' in shown(app)
        await pilot.resize_terminal(80, 40)
        await pilot.pause()
        assert 'operation: "update", data: { qty: row.qty - 1 } });' not in shown(app)


async def test_the_first_error_is_one_key_away() -> None:
    app = Debugger(shop(), nobody)
    async with app.run_test(size=(100, 40)) as pilot:
        await pilot.press("e")
        assert app.current.step == 7
        assert "REFUSED: not now" in shown(app)
    well = Debugger(Steps(shapes.trace()), nobody)
    async with well.run_test() as pilot:
        await pilot.press("e")
        assert "no step failed" in shown(well)


async def test_search_goes_on_from_the_current_step_and_round() -> None:
    app = Debugger(shop(), nobody)
    async with app.run_test(size=(100, 40)) as pilot:
        for wanted, at in (("IN STOCK", 4), ("charge", 7), ("transaction", 2)):
            await pilot.press("slash")
            app.screen.query_one(Input).value = wanted
            await pilot.press("enter")
            assert app.current.step == at
        await pilot.press("slash", "q", "n", "enter")
        assert app.current.step == 2
        assert "no step holds “qn”" in shown(app)
        await pilot.press("slash", "escape", "n")
        assert app.current.step == 3


async def test_enter_shows_long_values_whole_and_folds_them_again() -> None:
    app = Debugger(shop(), nobody)
    async with app.run_test(size=(80, 40)) as pilot:
        for _ in range(4):
            await pilot.press("n")
        assert shown(app).count("x") < 200
        await pilot.press("enter")
        assert shown(app).count("x") >= 900
        assert "- qty 5" in shown(app)
        assert "+ qty 4" in shown(app)
        await pilot.press("enter")
        assert shown(app).count("x") < 200


async def test_copy_hands_the_step_to_the_terminal_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    app = Debugger(shop(), nobody)
    copied: list[str] = []
    monkeypatch.setattr(app, "copy_to_clipboard", copied.append)
    async with app.run_test(size=(100, 40)) as pilot:
        await pilot.press("n", "c")
        assert json.loads(copied[0])["step"] == 2
    large = Debugger(shop(input={"text": "y" * 200_000}), nobody)
    monkeypatch.setattr(large, "copy_to_clipboard", copied.append)
    async with large.run_test(size=(120, 40)) as pilot:
        await pilot.press("c")
        assert len(copied) == 1
        assert "too large to copy. flux trace debug 9f3c2a1b --at 1 --json" in shown(large)


async def test_the_writers_of_a_steps_rows_are_one_key_away() -> None:
    async def somebody(step: DebugStep) -> list[Writer]:
        if step.call is None:
            raise StoreError("The record can't be read now.")
        return [
            Writer(table="stock", key={"id": 3}, column="qty", value=5, request_id="ab" * 16,
                   at=shapes.at(-5), op="INSERT", actor=None)
        ]  # fmt: skip

    app = Debugger(shop(), somebody)
    async with app.run_test(size=(100, 40)) as pilot:
        await pilot.press("o")
        await pilot.pause()
        await app.workers.wait_for_complete()
        assert "The record can't be read now." in shown(app)
        await pilot.press("n", "o")
        await app.workers.wait_for_complete()
        await pilot.pause()
        assert "stock 3" in shown(app)
        assert "INSERT by abababab" in shown(app)
        await pilot.press("escape", "n")
        assert app.current.step == 3


async def test_help_names_each_key_and_q_quits() -> None:
    app = Debugger(shop(), nobody)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("question_mark")
        await pilot.pause()
        assert "who wrote the rows" in shown(app)
        await pilot.press("question_mark", "q")
        await pilot.pause()
        assert not app.is_running


async def test_a_click_goes_to_a_step_and_d_changes_the_theme() -> None:
    app = Debugger(shop(), nobody)
    async with app.run_test(size=(100, 40)) as pilot:
        await pilot.click(StepList, offset=(5, 3))
        assert app.current.step == 4
        await pilot.press("d")
        assert app.theme == "flux-light"
    assert is_light({"COLORFGBG": "0;15"})
    assert not is_light({"COLORFGBG": "15;0"})
    assert not is_light({})


async def test_a_thousand_steps_are_a_tree_of_which_the_seen_part_is_painted() -> None:
    calls = [select(n) for n in range(1, 1001)]
    app = Debugger(Steps(shapes.trace(host_calls=calls), bundle()), nobody)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("G")
        await pilot.pause()
        assert app.current.step == 1002
        steps = app.query_one(StepList)
        assert steps.scroll_offset.y == 1002 - steps.size.height
        painted = [steps.render_line(y).text for y in range(steps.size.height)]
        assert painted[-1].startswith("▶ 1002 end")


@pytest.mark.parametrize("size", [(40, 8), (160, 40)])
async def test_hostile_values_reach_no_terminal(size: tuple[int, int]) -> None:
    deep: Any = HOSTILE
    for _ in range(145):
        deep = {HOSTILE: [deep]}
    calls = [
        shapes.call(
            1, HOSTILE, {"x": HOSTILE, "deep": deep}, {"rows": [{"y": HOSTILE * 500, "z": "z" * 1_000_000}]}
        ),
        shapes.call(2, "fetch", HOSTILE, error=shapes.error(HOSTILE, HOSTILE, detail=HOSTILE)),
    ]
    steps = Steps(
        shapes.trace(
            host_calls=calls,
            path=HOSTILE,
            logs=[shapes.log(3, 3, HOSTILE, HOSTILE, {HOSTILE: HOSTILE})],
            mutations=[
                shapes.mutation(
                    "UPDATE", {HOSTILE: HOSTILE}, {HOSTILE: 1}, {HOSTILE: HOSTILE}, table=HOSTILE, seq=1
                )
            ],
            spans=[*shapes.trace().spans, shapes.span("cc", "bb", HOSTILE, 2, 5)],
            error=shapes.failure(HOSTILE, HOSTILE, file=HOSTILE, line=1),
        ),
        bundle(**{"index.ts": HOSTILE.encode("utf-8", "replace").decode()}),
    )
    app = Debugger(steps, nobody)
    async with app.run_test(size=size) as pilot:
        for _ in range(len(steps)):
            for key in ("enter", "enter", "n"):
                await pilot.press(key)
                text = shown(app)
                assert not set(text) & set("\x1b\x07\r\u202e\ud800")
            listed = app.query_one(StepList)
            assert "\x1b" not in "".join(listed.render_line(y).text for y in range(listed.size.height))


@pytest.mark.parametrize(
    "document",
    [
        shapes.trace(),
        shapes.trace(outcome="rejected", status=401, spans=[], input=None, deployment=None, function=None),
        shapes.trace(record="none", input=None, output=None, request=shapes.request(body=None)),
        shapes.trace(outcome="interrupted", status=None, duration_ms=None, output=None),
        shapes.trace(record="spans", function=None, started_at=shapes.at(0)),
    ],
)
async def test_executions_that_lack_much_are_shown_all_the_same(document: Any) -> None:
    app = Debugger(Steps(document), nobody)
    async with app.run_test(size=(80, 24)) as pilot:
        for _ in range(len(Steps(document))):
            await pilot.press("n")
        assert f"of {len(Steps(document))}" in shown(app)


def test_the_page_of_a_step_names_what_was_asked_and_what_came_of_it() -> None:
    steps = shop()
    text = "\n".join(line.plain for line in page(steps.document, steps.at(5), 100, shapes.NOW))
    assert "step 5 of 8  update stock" in text
    assert "functions/buy/index.ts:4" in text
    assert "by its text" in text
    assert "qty 5 → 4" in text
    silent = Steps(shapes.trace(record="none", input=None, request=shapes.request(body=None)))
    text = "\n".join(line.plain for line in page(silent.document, silent.at(1), 80, shapes.NOW))
    assert "not recorded: record is `none`" in text


def test_no_line_of_the_page_is_wider_than_asked() -> None:
    steps = shop()
    for step in steps:
        assert all(line.width <= 80 for line in page(steps.document, step, 80, shapes.NOW)), step.step
