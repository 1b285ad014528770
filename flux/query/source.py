"""The line of user code that an error names, out of the deployment that ran: what the file was, not what it
is now.
"""

from __future__ import annotations

import io
import tarfile

from flux.query.shapes import Shape

AROUND = 3
"""Lines of context before and after."""
LONGEST_LINE = 2000
_FUNCTIONS = "functions/"


def locate(error: Shape | None, bundle: bytes | None) -> Shape | None:
    """Where an error was thrown, with the source around it.

    Args:
        error: an execution's error; file is relative to the project.
        bundle: the tar of the deployment that ran, or None where it is not stored.

    Returns:
        `{file, line, column, source, context}`: `source` is the line itself, `context` a list of `{line,
        text}` around it (both null and empty where the bundle lacks the file); None where the error names no
        file.
    """
    if not error or not error.get("file"):
        return None
    file, line, column = error["file"], error.get("line"), error.get("column")
    text = read(bundle, file) if bundle else None
    lines = text.splitlines() if text is not None else []
    source, first, last = None, 1, 0
    if isinstance(line, int) and 0 < line <= len(lines):
        source = lines[line - 1][:LONGEST_LINE]
        first, last = max(1, line - AROUND), min(len(lines), line + AROUND)
    return {
        "file": file,
        "line": line,
        "column": column,
        "source": source,
        "context": [{"line": n, "text": lines[n - 1][:LONGEST_LINE]} for n in range(first, last + 1)],
    }


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
