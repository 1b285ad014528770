"""What `flux dev` and `flux serve` print: the functions, each reload, each request, each problem with its
place.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from flux.app.application import Application
from flux.cli.render.safe import safe
from flux.errors import FluxError, FunctionError
from flux.gateway.listing import curl, first
from flux.recorder.redaction import Redaction
from flux.runtime.functions import Problem
from flux.runtime.registry import Change
from flux.runtime.request import Request, Result
from flux.runtime.spawner import unconfined


class Printer:
    """Tells a person on a terminal (or a log file) what the server does.

    Args:
        command: `flux dev` or `flux serve`.
        requests: True prints a line for each execution.
    """

    def __init__(self, command: str, *, requests: bool) -> None:
        self._command = command
        self._requests = requests
        self._began = time.perf_counter()
        self._redaction = Redaction()
        """What is not said of requests and functions; the application's, once there is one."""

    def started(self, app: Application, changes: list[Change], schema: list[str], url: str) -> None:
        """The whole picture: functions, address, a line to try."""
        self._redaction = app.redaction
        elapsed = (time.perf_counter() - self._began) * 1000
        _print()
        _print(f"  {click.style(self._command, bold=True)} {click.style(app.config.name, fg='cyan')}")
        _print()
        served = list(app.registry.functions.values())
        wide = max((len(f.route) for f in served), default=0)
        for function in served:
            verb = click.style(f"{' '.join(function.methods):<5}", fg="green")
            _print(f"  {verb} {function.route:<{wide}}  {_dim(f'functions/{function.deployment.entry}')}")
        if not served:
            _print(f"  No functions yet: write {click.style('functions/hello/index.ts', fg='cyan')}.")
        self._failures(app, changes)
        self._problems(app, app.registry.problems)
        if (found := unconfined()) is not None:
            self.trouble(*found)
        for table in app.installation.uncaptured:
            self.trouble(f"Changes of {table.schema}.{table.table} can't be recorded: {table.reason}.", None)
        _print()
        _print(
            f"  Serving on {click.style(url, fg='cyan', underline=True)} {_dim(f'ready in {elapsed:.0f} ms')}"
        )
        if (tried := first(app.registry)) is not None:
            _print()
            _print(f"  try   {curl(app.config, tried)}")
            _print(f"  then  {flux_command()} trace last")
        _print()

    def reloaded(self, app: Application, changes: list[Change]) -> None:
        """One line for each function that changed."""
        for change in changes:
            if change.kind in ("added", "changed"):
                took = _dim(f"{change.milliseconds:.0f} ms")
                _print(f"  {click.style('↻', fg='green')} {change.name} {change.kind} {took}")
            elif change.kind == "removed":
                _print(f"  {click.style('−', fg='yellow')} {change.name} removed")
        self._failures(app, changes)
        self._problems(app, app.registry.problems)

    def schema(self, applied: list[str], drifted: list[str]) -> None:
        """Schema files applied, and those edited after they were."""
        for name in applied:
            _print(f"  {click.style('✓', fg='green')} schema/{name} applied")
        for drift in drifted:
            self.trouble(drift, None)

    def finished(self, request: Request, result: Result) -> None:
        """One line for an execution."""
        if not self._requests:
            return
        colour = "green" if result.status < 400 else "yellow" if result.status < 500 else "red"
        what = (
            f"{request.method} {self._redaction.path(request.path or '', request.params)}"
            if request.trigger == "http"
            else f"{request.trigger} {request.function}"
        )
        error = f"  {self._line(f'{result.error.type}: {result.error.message}')}" if result.error else ""
        status = click.style(str(result.status), fg=colour)
        _print(f"  {_dim(result.request_id[:8])} {status} {self._line(what)}{error}")
        self.left(request, result.request_id, result.warnings)

    def left(self, request: Request, request_id: str, warnings: Sequence[str]) -> None:
        """What an execution left behind that had been answered before."""
        if self._requests:
            for warning in warnings:
                _print(f"  {_dim(request_id[:8])} {click.style('!', fg='yellow')} {self._line(warning)}")

    def trouble(self, message: str, hint: str | None) -> None:
        """A problem that doesn't end the server."""
        _print(f"  {click.style('!', fg='yellow')} {safe(message)}")
        if hint:
            _print(f"    {_dim(safe(hint))}")

    def stopping(self) -> None:
        """The signal was seen."""
        _print(_dim("  stopping: requests in flight finish, records are drained"))

    def _line(self, text: str) -> str:
        """What a request or a function says, on one line and without secrets."""
        return _line(self._redaction.secrets.remove_text(text))

    def _failures(self, app: Application, changes: Sequence[Change]) -> None:
        for change in changes:
            if change.error is not None:
                _failure(app.config.root, change.name, change.error, self._redaction.secrets.remove_text)

    def _problems(self, app: Application, problems: Sequence[Problem]) -> None:
        for problem in problems:
            place = ":".join(str(part) for part in (problem.file, problem.line, problem.column) if part)
            mark = (
                click.style("✗", fg="red") if problem.severity == "error" else click.style("!", fg="yellow")
            )
            _print(f"  {mark} {safe(place)}: {safe(problem.message)}")
            if problem.hint:
                _print(f"    {_dim(safe(problem.hint))}")


def flux_command() -> str:
    """How this `flux` is called from the current folder: `flux` where it is on the PATH."""
    here = Path(sys.argv[0]).absolute()
    if here.name == "__main__.py":
        return "python -m flux"
    found = shutil.which("flux")
    if found is not None and Path(found).resolve() == here.resolve():
        return "flux"
    try:
        return str(here.relative_to(Path.cwd()))
    except ValueError:
        return str(here)


def _failure(root: Path, name: str, error: FluxError, withhold: Callable[[str], str]) -> None:
    place, kind = "", error.type
    if isinstance(error, FunctionError):
        kind = error.error_type
        place = ":".join(str(part) for part in (error.file, error.line, error.column) if part)
    _print(f"  {click.style('✗', fg='red')} {click.style(name, bold=True)} {place}")
    for line in withhold(f"{kind}: {error.message}").splitlines()[:6]:
        _print(f"    {click.style(_line(line), fg='red')}")
    if isinstance(error, FunctionError) and error.file and error.line:
        try:
            source = (root / error.file).read_text(encoding="utf-8").splitlines()[error.line - 1]
        except (OSError, IndexError, UnicodeDecodeError):
            return
        gutter = f"{error.line:>6} │ "
        shown = "".join(c if c == "\t" else safe(c) for c in source)
        _print(f"{_dim(gutter)}{shown}")
        if error.column:
            indent = "".join("\t" if c == "\t" else " " for c in source[: error.column - 1])
            _print(f"{_dim('       │ ')}{indent}{click.style('^', fg='red')}")
    if error.hint:
        _print(f"    {_dim(safe(error.hint))}")


def _line(text: str) -> str:
    flat = " ".join(text.split())
    safe = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in flat)
    return safe if len(safe) <= 160 else safe[:159] + "…"


def _dim(text: str) -> str:
    return click.style(text, dim=True)


def _print(text: str = "") -> None:
    click.echo(text)
    sys.stdout.flush()
