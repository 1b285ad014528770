"""Where the user's code is: files of the bundle and lines in them. Used by what says where work was left."""

import os
import sys
from types import FrameType

Place = tuple[str, int]
"""A file of the bundle, below its folder, and a line."""

_root = "\0"


def install(root: str) -> None:
    """Say where the bundle is: the code below that folder is the user's."""
    global _root
    _root = root + os.sep


def place(frame: FrameType | None = None) -> Place | None:
    """The innermost line of the user's from `frame` (by default the caller's) outwards, or None."""
    found = sys._getframe(1) if frame is None else frame
    while found is not None:
        at = place_of(found.f_code.co_filename, found.f_lineno)
        if at is not None:
            return at
        found = found.f_back  # type: ignore[assignment]
    return None


def place_of(filename: str, line: int) -> Place | None:
    """The place of a file's line, or None where the file is not the user's."""
    if not filename.startswith(_root):
        return None
    return filename[len(_root) :].replace(os.sep, "/"), line
