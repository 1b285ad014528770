"""An error from a guest as a person reads it: the user's file and line, and no path of the machine."""

from __future__ import annotations

from typing import Any

import pytest

from flux.runtime.deployment import Deployment
from flux.runtime.thrown import function_error

BUNDLE = "/srv/app/.flux/guests/deno-1/deno-ab/bundle"
DEPLOYMENT = Deployment(
    "0" * 64, "f", "typescript", "f/index.ts", {"f/index.ts": b"", "lib/x.ts": b""}, {}, {}, {}
)


def frame(file: str, line: int = 1) -> dict[str, Any]:
    return {"file": file, "line": line, "column": 2, "function": "g"}


def test_the_innermost_frame_in_the_bundle_is_the_place() -> None:
    error = {
        "type": "E",
        "message": "m",
        "frames": [frame("node_modules/y.js"), frame("lib/x.ts", 7), frame("f/index.ts")],
    }
    made = function_error(error, DEPLOYMENT, BUNDLE)
    assert (made.file, made.line, made.column) == ("functions/lib/x.ts", 7, 2)


def test_without_a_frame_of_the_user_there_is_no_place() -> None:
    made = function_error(
        {"type": "E", "message": "m", "frames": [frame("../../etc/passwd")]}, DEPLOYMENT, BUNDLE
    )
    assert (made.file, made.line, made.column) == (None, None, None)


def test_paths_of_the_machine_are_taken_out_and_the_users_words_left_alone() -> None:
    stack = (
        f"Error: GET /api/users/3 failed in {BUNDLE}/f/a.ts\n"
        f"    at g (file://{BUNDLE}/f/index.ts:1:2)\n"
        "    at h (file:///usr/lib/python3/site-packages/flux/x.ts:3:4)\n"
        f'  File "{BUNDLE}/f/main.py", line 3, in handler\n'
        '  File "/usr/lib/python3.11/json/decoder.py", line 5, in decode'
    )
    made = function_error({"type": "Error", "message": f"no {BUNDLE}/x", "stack": stack}, DEPLOYMENT, BUNDLE)
    assert made.message == "no functions/x"
    assert made.stack == (
        "Error: GET /api/users/3 failed in functions/f/a.ts\n"
        "    at g (functions/f/index.ts:1:2)\n"
        "    at h (x.ts:3:4)\n"
        '  File "functions/f/main.py", line 3, in handler\n'
        '  File "decoder.py", line 5, in decode'
    )


@pytest.mark.parametrize("error", [None, [], "text", {"fields": [1]}, {"frames": [1]}])
def test_an_error_of_another_shape_is_refused(error: object) -> None:
    with pytest.raises(TypeError):
        function_error(error, DEPLOYMENT, BUNDLE)
