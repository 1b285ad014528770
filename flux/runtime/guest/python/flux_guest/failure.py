"""Exceptions as the host is told of them: type, message, a traceback of the user's frames, and where it
happened. Used by main.
"""

import linecache
import os
import re
from contextlib import suppress
from itertools import islice
from types import CodeType, TracebackType
from typing import Any, NoReturn

from flux_functions.errors import HostError, ValidationError

from flux_guest.values import NotJSON, dumps, parse

MOST_FRAMES = 50
MOST_CAUSES = 20
LONGEST_MESSAGE = 60_000
DEEPEST = 200
_CONFINED = (
    "Functions are confined: the network is reached by httpx.AsyncClient, data is kept by ctx.db, "
    "other work is done by ctx.queue and ctx.invoke."
)
"""What the kernel's own refusal leaves out."""

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')


def failure(error: BaseException, root: str) -> dict[str, Any]:
    """The `error` member of a frame. Never raises: an invocation whose error can't be told never ends.

    Args:
        error: what was raised.
        root: the bundle's folder; frames of code below it are the user's.

    Never raises, whatever the error's own methods do.
    """
    try:
        if isinstance(error, MemoryError):
            _let_go(error)
        return _described(error, root)
    except MemoryError:
        starve()
    except BaseException as fault:
        text = f"The error that was raised can't be read ({type(fault).__name__})."
        return {"type": type(error).__name__[:200], "message": text, "stack": "", "frames": []}


def starve() -> NoReturn:
    """There is no memory left to go on with: end the process, and say why."""
    os.write(2, b"out of memory\n")
    os._exit(1)


def _let_go(error: BaseException) -> None:
    """Free what the frames that the error went through held: to describe it takes memory too."""
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        trace = found.__traceback__
        while trace is not None:
            with suppress(RuntimeError):
                trace.tb_frame.clear()
            trace = trace.tb_next
        found = found.__context__


def _described(error: BaseException, root: str) -> dict[str, Any]:
    described: dict[str, Any] = {
        "type": _clean(error.type if isinstance(error, HostError) else type(error).__name__)[:200],
        "message": message(error),
        "stack": _clean("\n".join(_stack(error, root, set()))),
        "frames": _frames(error, root),
    }
    if isinstance(error, ValidationError):
        described["fields"] = _fields(error)
    return described


def _fields(error: ValidationError) -> dict[str, Any]:
    """Its fields as JSON can hold them; they travel in a frame's header, which is limited in size and
    depth.
    """
    try:
        exact = dumps(error.fields)
    except NotJSON:
        exact = dumps({_clean(str(name)): _clean(_text(value)) for name, value in error.fields.items()})
    if len(exact) > LONGEST_MESSAGE or _depth(exact) > DEEPEST:
        return {"input": _clean(error.message)}
    return parse(exact)


def _depth(exact: bytes) -> int:
    """How many levels of arrays and objects JSON text has."""
    deepest = depth = 0
    for mark in _STRING.sub(b"", exact):
        if mark in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif mark in b"]}":
            depth -= 1
    return deepest


def message(error: BaseException) -> str:
    """What `error` says of itself."""
    if isinstance(error, SyntaxError):
        return _clean(error.msg or "invalid syntax")
    if isinstance(error, SystemExit):
        return "The function ended its process (SystemExit)."
    if isinstance(error, PermissionError) and error.errno is not None:
        return _clean(f"{_text(error)}. {_CONFINED}")
    return _clean(_text(error))


def _text(value: object) -> str:
    try:
        return str(value)
    except MemoryError:
        raise
    except BaseException as fault:
        return f"<its text failed: {type(fault).__name__}>"


def _clean(text: str) -> str:
    return str(text)[:LONGEST_MESSAGE].encode("utf-8", "replace").decode()


def _frames(error: BaseException, root: str) -> list[dict[str, Any]]:
    found = [
        {"file": path, "line": line, "column": column, "function": code.co_name}
        for path, line, column, code in _places(error.__traceback__, root)
    ]
    if isinstance(error, SyntaxError) and error.filename and (path := _inside(error.filename, root)):
        found.append({"file": path, "line": error.lineno, "column": error.offset, "function": "<module>"})
    if not found and error.__cause__ is not None:
        return _frames(error.__cause__, root)
    return found[::-1][:MOST_FRAMES]


def _inside(filename: str, root: str) -> str | None:
    return filename[len(root) + 1 :].replace(os.sep, "/") if filename.startswith(root + os.sep) else None


def _places(trace: TracebackType | None, root: str) -> list[tuple[str, int | None, int | None, CodeType]]:
    """The user's frames, outermost first: file below the bundle, line, 1-based column, code."""
    found = []
    while trace is not None:
        code = trace.tb_frame.f_code
        path = _inside(code.co_filename, root)
        if path is not None:
            line, column = _position(code, trace)
            found.append((path, line, column, code))
        trace = trace.tb_next
    if len(found) > MOST_FRAMES:
        found = found[: MOST_FRAMES // 2] + found[-MOST_FRAMES // 2 :]
    return found


def _position(code: CodeType, trace: TracebackType) -> tuple[int | None, int | None]:
    """Line and column of the instruction that raised; co_positions counts columns in UTF-8 bytes."""
    line = trace.tb_lineno
    if trace.tb_lasti < 0:
        return line, None
    first, _, offset, _ = next(
        islice(code.co_positions(), trace.tb_lasti // 2, None), (None, None, None, None)
    )
    if first is None or offset is None:
        return line, None
    source = linecache.getline(code.co_filename, first).encode()
    return first, len(source[:offset].decode(errors="replace")) + 1


def _stack(error: BaseException, root: str, seen: set[int]) -> list[str]:
    seen.add(id(error))
    lines: list[str] = []
    if len(seen) > MOST_CAUSES:
        return ["(and so on)"]
    cause = error.__cause__
    context = error.__context__ if cause is None and not error.__suppress_context__ else None
    if cause is not None and id(cause) not in seen:
        lines += [*_stack(cause, root, seen), "", "The above exception was the direct cause of this one:", ""]
    elif context is not None and id(context) not in seen:
        lines += [*_stack(context, root, seen), "", "While that was handled, another exception occurred:", ""]
    lines.append("Traceback (most recent call last):")
    for path, line, _, code in _places(error.__traceback__, root):
        lines.append(f'  File "functions/{path}", line {line}, in {code.co_name}')
        source = linecache.getline(code.co_filename, line or 0).strip()
        if source:
            lines.append(f"    {source[:200]}")
    if isinstance(error, SyntaxError) and error.filename:
        path = _inside(error.filename, root) or os.path.basename(error.filename)
        lines.append(f'  File "functions/{path}", line {error.lineno}')
        if error.text:
            text = error.text.rstrip("\n")
            stripped = text.lstrip()
            lines.append(f"    {stripped[:200]}")
            lines.append("    " + " " * max(0, (error.offset or 1) - 1 - len(text) + len(stripped)) + "^")
    lines.append(f"{type(error).__name__}: {message(error)}")
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions[:10]:
            if id(inner) not in seen:
                lines += ["", *_stack(inner, root, seen)]
    return lines
