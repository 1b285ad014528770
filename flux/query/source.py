"""The line of user code that an error names, out of the deployment that ran: what the file was, not what it
is now.
"""

from __future__ import annotations

import io
import tarfile

from flux.shapes.record import Failure
from flux.shapes.why import Location, SourceLine

AROUND = 3
"""Lines of context before and after."""
LONGEST_LINE = 2000
_FUNCTIONS = "functions/"


def locate(error: Failure | None, bundle: bytes | None) -> Location | None:
    """Where an error was thrown, with the source around it.

    Args:
        error: an execution's error; file is relative to the project.
        bundle: the tar of the deployment that ran, or None where it is not stored.

    Returns:
        None where the error names no file. Where the bundle lacks it there is no source, only the place.
    """
    if error is None or not error.file:
        return None
    line = error.line
    text = read(bundle, error.file) if bundle else None
    lines = text.splitlines() if text is not None else []
    source, first, last = None, 1, 0
    if line is not None and 0 < line <= len(lines):
        source = lines[line - 1][:LONGEST_LINE]
        first, last = max(1, line - AROUND), min(len(lines), line + AROUND)
    return Location(
        file=error.file,
        line=line,
        column=error.column,
        source=source,
        context=[SourceLine(n, lines[n - 1][:LONGEST_LINE]) for n in range(first, last + 1)],
    )


def read(bundle: bytes, file: str) -> str | None:
    """The text of a project file (`functions/create_user/index.ts`) in a bundle; None where it isn't
    there.
    """
    wanted = file.removeprefix("./").removeprefix(_FUNCTIONS)
    try:
        with tarfile.open(fileobj=io.BytesIO(bundle)) as tar:
            for member in tar:
                name = member.name.removeprefix("./").removeprefix(_FUNCTIONS)
                if name == wanted and member.isfile():
                    content = tar.extractfile(member)
                    return None if content is None else content.read().decode("utf-8", "replace")
    except tarfile.TarError:
        return None
    return None
