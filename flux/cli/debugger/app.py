"""The program: the steps on the left; code, input, output, rows and logs of the current one on the right."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import ClassVar

from msgspec.structs import replace
from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.message import Message
from textual.widgets import Input, Static

from flux.cli.debugger import panes
from flux.cli.debugger.colours import DARK, DARK_THEME, LIGHT, LIGHT_THEME, is_light, rich
from flux.cli.debugger.dialogs import Page
from flux.cli.debugger.step_list import StepList
from flux.cli.output import encode
from flux.cli.render.ansi import Text
from flux.cli.render.safe import safe
from flux.cli.render.step import headline, label, origin
from flux.cli.render.trace import title
from flux.cli.render.values import short, size, status
from flux.errors import FluxError
from flux.query import DebugStep, Steps, Writer, to_json

COPIED = 100_000
"""Bytes that are copied at most: terminals refuse more."""
BREAKPOINT = 140
"""Columns from which on input and output stand side by side."""

KEYS = (
    ("→ n ↓", "the next step"),
    ("← p ↑", "the step before"),
    ("g G", "the first, the last step"),
    ("page up, page down", "ten steps"),
    ("e", "the first step that failed"),
    ("/", "search forward in the steps, their values and logs; enter again: the next"),
    ("enter", "show values and code whole, or folded again"),
    ("j k", "scroll the right side"),
    ("o", "who wrote the rows that this step changed or read"),
    ("c", "copy the step as JSON"),
    ("d", "dark or light"),
    ("?", "this page"),
    ("q", "quit"),
)
HINTS = "←→ step  e error  / search  enter expand  o origin  c copy  ? help  q quit"

Origins = Callable[[DebugStep], Awaitable[list[Writer]]]


class Detail(VerticalScroll, can_focus=False):
    """The right side. It says when its width is another: the lines on it are cut to it."""

    class Resized(Message):
        """Its width is another."""

    def on_resize(self) -> None:
        """Say so."""
        self.post_message(self.Resized())


class Debugger(App[None]):
    """Steps through one execution.

    Args:
        steps: of the execution.
        origins: tells who had written the rows of a step.
        light: begin with dark letters on a light background.
    """

    TITLE = "flux trace debug"
    ENABLE_COMMAND_PALETTE = False
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (BREAKPOINT, "-wide")]  # noqa: RUF012 - as Textual declares it
    CSS_PATH = "debugger.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right,n,down", "move(1)"),
        Binding("left,p,up", "move(-1)"),
        Binding("pagedown", "move(10)"),
        Binding("pageup", "move(-10)"),
        Binding("g,home", "go(1)"),
        Binding("G,end", "last"),
        Binding("e", "first_error"),
        Binding("slash", "search"),
        Binding("enter", "expand"),
        Binding("j", "scroll(3)"),
        Binding("k", "scroll(-3)"),
        Binding("o", "origin"),
        Binding("c", "copy"),
        Binding("d", "theme"),
        Binding("question_mark", "keys"),
        Binding("escape", "close_search"),
        Binding("q", "quit"),
        Binding("ctrl+c", "quit", priority=True),
    ]

    def __init__(self, steps: Steps, origins: Origins, *, light: bool = False) -> None:
        super().__init__()
        self._steps = steps
        self._origins = origins
        self._light = light
        self._number = 1
        self._expanded = False
        self._notice: str | None = None

    @property
    def failure(self) -> Exception | None:
        """What the program ended of, where it did not end well."""
        return self._exception

    @property
    def palette(self) -> Mapping[str, str]:
        """The colours of the house's styles."""
        return LIGHT if self._light else DARK

    @property
    def current(self) -> DebugStep:
        """The step that is shown."""
        return self._steps.at(self._number)

    def compose(self) -> ComposeResult:
        """The panes, empty."""
        yield Static(id="title")
        with Horizontal(id="middle"):
            yield StepList(self._steps)
            with Detail(id="detail"):
                yield Static(id="headline")
                yield Static(id="code", classes="pane")
                with Horizontal(id="values"):
                    yield Static(id="input", classes="pane")
                    yield Static(id="output", classes="pane")
                yield Static(id="rows", classes="pane")
                yield Static(id="logs", classes="pane")
        yield Input(id="search", placeholder="search forward; escape closes", select_on_focus=True)
        yield Static(id="hints")

    def on_mount(self) -> None:
        """Show the first step."""
        self.register_theme(DARK_THEME)
        self.register_theme(LIGHT_THEME)
        self.query_one(StepList).focus()
        self._dress()

    def on_detail_resized(self) -> None:
        """Cut the lines anew."""
        self._show()

    def action_move(self, by: int) -> None:
        """Go so many steps on, as far as there are any."""
        self.action_go(self._number + by)

    def action_go(self, number: int) -> None:
        """Go to a step; to the nearest where there is none of that number."""
        number = min(max(number, 1), len(self._steps))
        self._notice = None
        if number != self._number:
            self._number = number
            self.query_one("#detail", VerticalScroll).scroll_home(animate=False)
        self._show()

    def action_last(self) -> None:
        """Go to the end."""
        self.action_go(len(self._steps))

    def action_first_error(self) -> None:
        """Go to the first step that failed."""
        number = self._steps.first_error
        if number is None:
            self._say("no step failed")
        else:
            self.action_go(number)

    def action_expand(self) -> None:
        """Show values and code whole, or folded."""
        self._expanded = not self._expanded
        self._show()

    def action_scroll(self, by: int) -> None:
        """Scroll the right side."""
        self.query_one("#detail", VerticalScroll).scroll_relative(y=by, animate=False)

    def action_search(self) -> None:
        """Ask what to search for."""
        field = self.query_one("#search", Input)
        field.display = True
        field.focus()

    def action_close_search(self) -> None:
        """Go on without searching."""
        self.query_one("#search", Input).display = False
        self.query_one(StepList).focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Go to the next step that holds the text, past the end from the start on."""
        self.action_close_search()
        wanted = event.value.casefold()
        if not wanted:
            return
        count = len(self._steps)
        for ahead in range(1, count + 1):
            number = (self._number - 1 + ahead) % count + 1
            if wanted in self._text(number):
                self.action_go(number)
                return
        self._say(f"no step holds “{safe(event.value[:60])}”")

    def action_copy(self) -> None:
        """Copy the step as JSON into the terminal's clipboard (OSC 52)."""
        text = encode(self.current, indent=2)
        length = len(text.encode())
        if length > COPIED:
            name = short(self._steps.document.request_id)
            self._say(
                f"{size(length)}: too large to copy. flux trace debug {name} --at {self._number} --json"
            )
            return
        self.copy_to_clipboard(text)
        self._say(f"copied step {self._number} as JSON, {size(length)}")

    @work(exclusive=True)
    async def action_origin(self) -> None:
        """Tell who had written the rows of this step."""
        try:
            writers = await self._origins(self.current)
        except FluxError as error:
            self._say(safe(error.message))
            return
        if not writers:
            self._say("no earlier writer of this step's rows is recorded")
            return
        lines = origin(writers, max(40, self.size.width - 12), datetime.now().astimezone())
        self.push_screen(Page("as of before this step, written by", rich(lines, self.palette)))

    def action_keys(self) -> None:
        """Show the keys."""
        lines = [Text.of((f"{key:>18}  ", "bold yellow"), text) for key, text in KEYS]
        self.push_screen(Page("keys", rich(lines, self.palette)))

    def action_theme(self) -> None:
        """Dark for light, or light for dark."""
        self._light = not self._light
        self._dress()

    def on_step_list_chosen(self, event: StepList.Chosen) -> None:
        """Go to the step that was clicked on."""
        self.action_go(event.number)

    def _fatal_error(self) -> None:
        """End without Textual's traceback, which shows all variables: `step_through` raises the error."""
        self._close_messages_no_wait()

    def _dress(self) -> None:
        self.theme = (LIGHT_THEME if self._light else DARK_THEME).name
        self.query_one(StepList).palette = self.palette
        self._show()

    def _say(self, text: str) -> None:
        """A word on the last line, until the next step."""
        self._notice = text
        self._footer()

    def _footer(self) -> None:
        line = Text.of((HINTS, "dim")) if self._notice is None else Text.of((self._notice, "yellow"))
        self._fill("hints", [line.cut(self.size.width - 2)])

    def _text(self, number: int) -> str:
        """What is searched of a step, in lower case."""
        moment = self._steps.moments[number - 1]
        step = self._steps.at(number)
        parts = [label(self._steps.document, moment).plain]
        parts += [to_json(value) for value in (step.input, step.output, step.error) if value is not None]
        if moment.kind == "log":
            parts.append(step.logs[-1].message)
        return "\n".join(parts).casefold()

    def _show(self) -> None:
        """Fill all panes from the current step."""
        document, step = self._steps.document, self.current
        self.query_one(StepList).show(self._number)
        cells = max(20, self.query_one("#detail").size.width - 6)
        name = status(document.status, document.outcome).add(f"  {title(document)}", "bold")
        name.add(f"  {short(document.request_id)}", "yellow")
        self._fill("title", [name.cut(self.size.width - 2)])
        self._fill("headline", [headline(document, step).cut(cells + 4)])
        source = panes.code(self._steps, step, cells, expanded=self._expanded)
        self._pane("code", source)
        beside = cells if self.size.width < BREAKPOINT else cells // 2 - 2
        found = panes.values(self._steps, step, beside, expanded=self._expanded)
        self.query_one("#values").display = "input" in found
        self._pane("input", found.get("input"))
        self._pane("output", found.get("error") or found.get("output"))
        if beside != cells:
            wide = replace(step, input=None, output=None)
            found = panes.values(self._steps, wide, cells, expanded=self._expanded)
        self._pane("rows", found.get("rows"))
        self._pane("logs", found.get("logs"))
        self._footer()

    def _fill(self, pane: str, lines: list[Text]) -> None:
        self.query_one(f"#{pane}", Static).update(rich(lines, self.palette))

    def _pane(self, name: str, pane: panes.Pane | None) -> None:
        widget = self.query_one(f"#{name}", Static)
        widget.display = pane is not None
        if pane is not None:
            widget.border_title = pane.title.replace("[", "\\[")
            widget.update(rich(pane.lines, self.palette))


async def step_through(execution: str) -> None:
    """Run the program for one execution until it is quit.

    Raises:
        NotFound, Ambiguous, UsageError: `execution` doesn't name one.
    """
    from flux.cli.project import reader

    async with reader() as record:
        steps = await record.steps(execution)
        program = Debugger(steps, record.origins, light=is_light())
        await program.run_async()
        if program.failure is not None:
            raise program.failure
