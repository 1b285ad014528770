"""How soon the new code of a function, in TypeScript and in Python, answers in `flux dev`, since its file was
written and since the change was seen.

    python benchmarks/reload.py [--changes 20]

A client asks without a break; the function's file is written with another message. Seen is a change when the
functions begin to be read again: the milliseconds that `flux dev` reports, before it reports them.
"""

from __future__ import annotations

import http.client
import queue
import re
import shutil
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from cluster import Cluster
from project import HELLO, write_project
from server import serve
from standing import Findings, Standing, arguments, verdict

WANTED = 30.0
"""Milliseconds since the change was seen."""
PATIENCE = 20.0
"""Seconds that a change may take to be served."""
PAUSE = 0.3
"""Seconds between two changes: longer than the watcher waits for more of the same."""
PYTHON = """async def handler(input, ctx):
    return {"message": f"Hello, {input.get('name', 'world')}!"}
"""
LANGUAGES = {
    "TypeScript": ("hello", "index.ts", HELLO),
    "Python": ("greet", "main.py", PYTHON),
}
"""The functions, by language: name, file and source. Their messages say `Hello,`."""
Reports = queue.SimpleQueue[tuple[float, float]]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--changes", type=int, default=20)
    given = parser.parse_args()
    if given.quick:
        given.changes = 5
    folder = Path(tempfile.mkdtemp(prefix="flux-bench-"))
    try:
        with Cluster(folder / "postgres") as cluster:
            root = write_project(folder / "project")
            _write_python(root)
            process, port = serve(root, cluster.database("bench"), command="dev")
            reports: Reports = queue.SimpleQueue()
            listener = threading.Thread(target=_listen, args=(process, reports))
            listener.start()
            try:
                found = {
                    language: [
                        _change(root, port, number, reports, *function) for number in range(given.changes)
                    ]
                    for language, function in LANGUAGES.items()
                }
            finally:
                process.terminate()
                process.wait(60)
                listener.join()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    Findings([_standing(language, changes) for language, changes in found.items()]).hand_over(given.json)


def _standing(language: str, changes: list[tuple[float, float, float]]) -> Standing:
    written, seen, reload = (sorted(times) for times in zip(*changes, strict=True))
    print(f"{language}: the reload: {_shown(reload)}")
    return Standing(
        f"a changed {language} function's first answer in `flux dev`, since the change was seen",
        "–",
        f"< {WANTED:.0f} ms",
        f"{_shown(seen)}; since the write {_shown(written)}",
        verdict(seen, most=WANTED),
    )


def _write_python(root: Path) -> None:
    name, file, source = LANGUAGES["Python"]
    folder = root / "functions" / name
    folder.mkdir()
    (folder / file).write_text(source)
    (folder / "flux.json").write_text('{"method": "GET"}')


def _listen(process: subprocess.Popen[str], reports: Reports) -> None:
    """Every reload that is reported: when, and the milliseconds it took."""
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(r"\w+ changed (\d+) ms", line):
            reports.put((time.perf_counter(), float(found[1])))


def _change(
    root: Path, port: int, number: int, reports: Reports, name: str, file: str, source: str
) -> tuple[float, float, float]:
    """Milliseconds from a write, and from when it was seen, to the first new answer; and of the reload."""
    time.sleep(PAUSE)
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    expected = f"Hello {number},".encode()
    (root / "functions" / name / file).write_text(source.replace("Hello,", f"Hello {number},"))
    began = time.perf_counter()
    while True:
        client.request("GET", f"/{name}?name=Ada")
        if expected in client.getresponse().read():
            break
        if time.perf_counter() - began > PATIENCE:
            raise SystemExit(f"A changed function was not served within {PATIENCE:.0f} s.")
    answered = time.perf_counter()
    client.close()
    reported, took = reports.get(timeout=PATIENCE)
    return (answered - began) * 1000, (answered - reported) * 1000 + took, took


def _shown(times: list[float]) -> str:
    return f"p50 {times[len(times) // 2]:.0f}, max {times[-1]:.0f} ms"


if __name__ == "__main__":
    main()
