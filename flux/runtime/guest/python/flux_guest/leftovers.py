"""What a handler leaves behind: tasks that nobody awaits, coroutines that never ran, errors that nobody
retrieves. Each piece is a warning of the execution that names the line. `ctx.wait_until` is how to mean it.
"""

import asyncio
import os
import sys
import warnings
from types import CoroutineType
from typing import Any

from flux_functions.errors import InvocationOver

from flux_guest.failure import failure
from flux_guest.invocation import Invocation
from flux_guest.place import Place, place_of
from flux_guest.sources import current

AWAIT = "await it, or hand it to ctx.wait_until."
_DEEP = 100


def install() -> None:
    """Begin to notice."""
    sys.set_coroutine_origin_tracking_depth(1)
    warnings._warn_unawaited_coroutine = _never_awaited  # type: ignore[attr-defined]


def warned(invocation: Invocation) -> list[dict[str, Any]]:
    """The warnings that were kept, as a frame's member; then there are none."""
    left, invocation.left = invocation.left, {}
    return [
        {"text": text, "times": times, "frames": [{"file": at[0], "line": at[1]}] if at else []}
        for (text, at), times in left.items()
    ]


def unfinished(invocation: Invocation, task: "asyncio.Task[Any]") -> None:
    """Keep that `task` was still there when the handler returned; it is about to be cancelled. The function
    may have done so itself: then nothing was left behind.
    """
    if task.cancelling():
        return
    coroutine, made = task.get_coro(), invocation.tasks.get(task)
    if isinstance(coroutine, CoroutineType) and _unborn(coroutine):
        what = "The task made here had not begun when the handler returned, and never ran"
        invocation.keep(f"{what}: {AWAIT}", made)
        return
    at = _waits_at(coroutine) or made
    invocation.keep(f"A task waited here when the handler returned, and was cancelled: {AWAIT}", at)


def failed(invocation: Invocation, error: BaseException, before: str, root: str) -> dict[str, Any] | None:
    """Keep that something failed that nobody awaits; the error as `failure` describes it. None for a call
    that came too late, which was told then. `root` is the bundle's folder.
    """
    if isinstance(error, InvocationOver):
        return None
    described = failure(error, root)
    frames = described["frames"]
    at = (frames[0]["file"], frames[0]["line"]) if frames else None
    invocation.keep(f"{before}{described['type']}: {described['message']}", at)
    return described


def _never_awaited(coroutine: Any) -> None:
    """Python's word on a coroutine that is gone and never ran."""
    invocation = current.get()
    origin = getattr(coroutine, "cr_origin", None)
    code = getattr(coroutine, "cr_code", None)
    at = place_of(origin[0][0], origin[0][1]) if origin else None
    name = getattr(coroutine, "__qualname__", None) or getattr(code, "co_name", "?")
    text = f"`{name}` was called here and never awaited, so it did not run: {AWAIT}"
    if invocation is None or invocation.closed:
        place = f" (functions/{at[0]}:{at[1]})" if at else ""
        os.write(2, f"{text}{place}\n".encode("utf-8", "replace"))
    else:
        invocation.keep(text, at)


def _unborn(coroutine: CoroutineType) -> bool:
    return coroutine.cr_frame is not None and not coroutine.cr_running and not coroutine.cr_suspended


def _waits_at(coroutine: Any) -> Place | None:
    """Where the innermost code of the user's waits, along what each coroutine awaits."""
    at: Place | None = None
    for _ in range(_DEEP):
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        if frame is None:
            break
        at = place_of(frame.f_code.co_filename, frame.f_lineno) or at
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)
    return at
