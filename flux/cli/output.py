"""What every command shares: the `--json` option, how errors are told, how documents are printed, how
coroutines are run.
"""

from __future__ import annotations

import functools
import os
import re
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

import click

from flux.errors import Ambiguous, FluxError

P = ParamSpec("P")
T = TypeVar("T")

INTERRUPTED = 130
_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
json_lines_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")


def command_errors(command: Callable[P, T]) -> Callable[P, T]:
    """Decorates a command: whatever it raises ends the process with a message, never with a traceback.

    Works with and without `--json` (the parameter `as_json`) on the command.
    """

    @functools.wraps(command)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        with guarded(as_json=bool(kwargs.get("as_json"))):
            return command(*args, **kwargs)

    return wrapper


@contextmanager
def guarded(*, as_json: bool) -> Iterator[None]:
    """Turns what is raised inside into a message on stderr and an exit code. FLUX_DEBUG=1 lets tracebacks
    through.
    """
    try:
        yield
    except (SystemExit, GeneratorExit, click.exceptions.Exit) as ending:
        if isinstance(ending, click.exceptions.Exit):
            sys.exit(ending.exit_code)
        raise
    except FluxError as error:
        tell(error, as_json=as_json)
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(INTERRUPTED)
    except click.ClickException as error:
        _tell_click(error, as_json=as_json)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # The reader has seen enough. What is still buffered must not complain at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        if os.environ.get("FLUX_DEBUG"):
            raise
        tell(_unforeseen(error), as_json=as_json)
        sys.exit(1)


def tell(error: FluxError, *, as_json: bool) -> None:
    """An error on stderr: one JSON document, or `error:` and `hint:` lines."""
    if as_json:
        document: dict[str, Any] = {"type": error.type, "message": error.message, "hint": error.hint}
        if isinstance(error, Ambiguous):
            document["candidates"] = error.candidates
        click.echo(encode({"error": document}), err=True)
        return
    from flux.cli.render.ansi import Screen, Text
    from flux.cli.render.safe import safe

    screen = Screen.of(sys.stderr)
    screen.print(Text.of(("error", "bold red"), (": ", "bold"), (safe(error.message), "")))
    for candidate in error.candidates if isinstance(error, Ambiguous) else []:
        screen.print(Text.of(f"  {safe(candidate)}"))
    for at, line in enumerate((error.hint or "").splitlines()):
        screen.print(Text.of(("hint: " if at == 0 else "      ", "cyan"), (safe(line), "")))


def print_json(document: Any) -> None:
    """A whole document, indented."""
    click.echo(encode(document, indent=2))


def print_json_line(document: Any) -> None:
    """One object on a line of its own, sent at once."""
    click.echo(encode(document))
    sys.stdout.flush()


def encode(document: Any, indent: int = 0) -> str:
    """JSON that neither breaks a terminal nor fails to be written: controls, bidi marks, surrogates are
    escaped.
    """
    from flux.query.encoding import to_json

    text = to_json(document, indent=indent)
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine to its end."""
    import asyncio

    return asyncio.run(work)


def _tell_click(error: click.ClickException, *, as_json: bool) -> None:
    if as_json:
        document = {"type": "UsageError", "message": error.format_message(), "hint": _usage(error)}
        click.echo(encode({"error": document}), err=True)
        return
    from flux.cli.render.ansi import Screen, Text
    from flux.cli.render.safe import safe

    screen = Screen.of(sys.stderr)
    screen.print(Text.of(("error", "bold red"), (": ", "bold"), (safe(error.format_message()), "")))
    if usage := _usage(error):
        screen.print(Text.of(("hint: ", "cyan"), (usage, "")))


def _usage(error: click.ClickException) -> str | None:
    context = error.ctx if isinstance(error, click.UsageError) else None
    return None if context is None else f"{context.get_usage().removeprefix('Usage: ')} (see --help)"


def _unforeseen(error: Exception) -> FluxError:
    """An error nobody foresaw, as one that people can report."""
    text = str(error).strip() or type(error).__name__
    if isinstance(error, (OSError, TimeoutError)):
        return FluxError(text)
    return FluxError(
        f"{type(error).__name__}: {text}", "This is a fault in Flux. FLUX_DEBUG=1 shows where it happened."
    )
