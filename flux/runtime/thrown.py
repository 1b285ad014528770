"""What a guest says about an error, turned into a FunctionError that a person can read. Used by GuestProcess.

Guests name files relative to the bundle; people know them as `functions/<path>`. No path of the machine may
show.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import orjson

from flux.errors import FunctionError
from flux.runtime.deployment import Deployment

LONGEST_TEXT = 64 * 1024
_NO_MEMORY = ("allocation failed", "could not allocate memory")
_ABSOLUTE = re.compile(r"(?:file://|(?<![\w.:/]))/(?:[^\s/:()\"'`]+/)+(?=[^\s/:()\"'`]+)")


def function_error(error: object, deployment: Deployment, bundle: str) -> FunctionError:
    """Build the error from an `error` member of a frame.

    Args:
        error: `{type, message, stack, frames: [{file, line, column, function}], fields?}` as the guest sent
            it.
        deployment: whose code threw; a frame whose file is one of its files is the user's.
        bundle: the folder on this machine where that code lies.

    Raises:
        TypeError: `error` is not of that shape; the guest has then broken the protocol.
    """
    if not isinstance(error, Mapping):
        raise TypeError("an error that is not an object")
    fields = error.get("fields")
    if fields is not None and not isinstance(fields, Mapping):
        raise TypeError("an error's fields that are not an object")
    stack = error.get("stack")
    file, line, column = _location(error.get("frames") or (), deployment)
    return FunctionError(
        clean(str(error.get("type") or "Error"), bundle)[:200],
        clean(str(error.get("message") or ""), bundle),
        stack=None
        if stack is None
        else "\n".join(_frame(line) for line in clean(str(stack), bundle).split("\n")),
        file=file,
        line=line,
        column=column,
        fields=None if fields is None else {str(name): _writable(value) for name, value in fields.items()},
    )


def warning(left: object, deployment: Deployment, bundle: str) -> str:
    """What a function left behind, in a line that begins with its place: `functions/f/index.ts:7: ...`.

    Args:
        left: `{text, frames: [{file, line}], times?}` as the guest sent it. Without a frame of the function's
            own code the place is its file.
        deployment, bundle: as in `function_error`.

    Raises:
        TypeError: `left` is not of that shape; the guest has then broken the protocol.
    """
    if not isinstance(left, Mapping):
        raise TypeError("a warning that is not an object")
    file, line, _ = _location(left.get("frames") or (), deployment)
    place = f"{file}:{line}" if file and line else f"functions/{deployment.entry}"
    text = clean(str(left.get("text") or ""), bundle)
    times = _number(left.get("times")) or 1
    return f"{place}: {text}" + (f" ({times:,} times)" if times > 1 else "")


def out_of_memory(error: FunctionError, memory_mb: int) -> bool:
    """Whether the function met its process's memory limit (V8's heap limit ends the process instead); the
    error's message then says which limit that is.
    """
    if error.error_type != "MemoryError" and not (
        error.error_type == "RangeError" and any(sign in error.message for sign in _NO_MEMORY)
    ):
        return False
    if memory_mb:
        limit = f"a process may allocate {memory_mb} MiB (memory_mb in flux.toml)"
        error.message = f"{error.message.rstrip('.') or 'out of memory'}: {limit}."
    return True


def clean(text: str, bundle: str) -> str:
    """`text` with the bundle's folder written as `functions`."""
    text = text[:LONGEST_TEXT].replace(f"file://{bundle}/", "functions/").replace(f"{bundle}/", "functions/")
    return text.replace(bundle, "functions")


def _writable(value: object) -> object:
    """`value`, or its JSON text where it is nested deeper than orjson writes (some 250 levels)."""
    try:
        orjson.dumps(value)
    except TypeError:
        try:
            return json.dumps(value)[:LONGEST_TEXT]
        except RecursionError:
            return "[nested too deeply]"
    return value


def _frame(line: str) -> str:
    """A line of a stack; in a frame, absolute paths that are left are reduced to file names."""
    return _ABSOLUTE.sub("", line) if line.lstrip().startswith(("at ", "File ")) else line


def _location(frames: Any, deployment: Deployment) -> tuple[str | None, int | None, int | None]:
    for frame in frames:
        if not isinstance(frame, Mapping):
            raise TypeError("a stack frame that is not an object")
        file = frame.get("file")
        if isinstance(file, str) and file in deployment.files:
            return f"functions/{file}", _number(frame.get("line")), _number(frame.get("column"))
    return None, None, None


def _number(value: object) -> int | None:
    return value if type(value) is int and value > 0 else None
