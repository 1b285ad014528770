"""Secrets go in wherever something can go in, in every encoding; afterwards no byte on disk, sent to a
collector, printed or shown holds one.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import os
import signal
import tempfile
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
import httpx
import pytest
from ahocorasick_rs import BytesAhoCorasick

from flux.store import embedded
from tests.acceptance.conftest import Project, environment, eventually
from tests.collector import HttpCollector, collecting
from tests.spellings import spellings

SECRETS = {
    "PLAIN": "canary-7f3Kq9-plain",
    "HARD": 'canary "4Tz"\\odd\nline\'s é',
    "LISTED": "canary%41+Lm2/listed=",
}
NAMED = {  # withheld for the name they go by, no secrets of .env
    "header": "hdrCanary81Vx",
    "cookie": "cookieCanary92Wy",
    "user": "userCanary03Xz",
    "password": "pathCanary14Ya",
    "column": "columnCanary25Zb",
}

PYTHON = """
import gzip
import json
import httpx
from flux_functions import Response, ValidationError

# In two pieces each: the source is recorded as it is.
PLAIN, HEADER, COOKIE = "canary-7f3" "Kq9-plain", "hdrCanary" "81Vx", "cookieCanary" "92Wy"
USER, PASSWORD, COLUMN = "userCanary" "03Xz", "pathCanary" "14Ya", "columnCanary" "25Zb"
print("at load: " + PLAIN)

async def attempt(ctx, *statement):
    try:
        await ctx.db.execute(*statement)
    except Exception as error:
        ctx.log.error(str(error), {"detail": str(getattr(error, "detail", ""))})

async def handler(input, ctx):
    given = json.dumps(input)
    fields = input.items() if isinstance(input, dict) else ()
    forms = json.dumps([value for name, value in fields if name.lower() != "password"])
    headers = ctx.request.headers
    hard = await ctx.secrets.get("HARD")
    literal = "'" + hard.replace("'", "''") + "'"

    ctx.log.warn(given, {"fields": input})
    print(given)
    print(forms, headers.get("x-note"), headers.get("x-utf-8"))
    ctx.log.info("read", {"hard": hard, "listed": await ctx.secrets.get("LISTED")})

    async def inside():
        await attempt(ctx, "select $1::text as said, $2::jsonb as json", hard, {"a": [hard]})
        await attempt(ctx, "select " + literal + "::int")
        await attempt(ctx, "select $1::int / 0", 1)
        for level in ("log", "warning", "exception"):
            await attempt(ctx, "do $$ begin raise " + level + " '%', " + literal + "; end $$")
        async with ctx.db.transaction() as tx:
            await tx.queue.push("later", {"why": hard, "given": input, "password": PASSWORD}, max_attempts=1)

    await ctx.trace.span("a span about " + hard, inside)
    async with httpx.AsyncClient() as client:
        answer = await client.post(
            PROVIDER.replace("//", "//" + USER + "@") + "/",
            params={"k": hard, "Password": PASSWORD},
            headers={"x-auth": HEADER, "x-note": PLAIN, "Cookie": "a=" + COOKIE},
            content=(hard + forms[:2000]).encode("utf-16"),
        )
        await client.post(PROVIDER + "/gz", content=gzip.compress(forms.encode()))
    await ctx.queue.push("later", {"given": forms}, max_attempts=2, idempotency_key="once " + PLAIN)
    await ctx.invoke("child", {"inner": given, "PASSWORD": PASSWORD})
    for values in (("1", COLUMN, None), ("2", COLUMN, "x"), ("2", COLUMN, "x")):
        await attempt(ctx, "insert into people (id, email, need) values ($1, $2, $3)", *values)
    rows = await ctx.db.fetch("select $1 as id, $2 as email, repeat('9', 5000)::numeric as long", "1", COLUMN)
    if isinstance(input, dict) and input.get("fail"):
        raise ValidationError({"given": forms}) if input["fail"] == "meant" else RuntimeError(forms)
    credentials = {"x-note": PLAIN, "set-cookie": "a=" + COOKIE, "X-Signature": HEADER}
    return Response(
        json.dumps({"said": given, "answer": answer.text, "rows": len(rows)}),
        headers={"content-type": "application/json", **credentials},
    )
"""
TYPESCRIPT = """
    const [plain, header] = ["canary-7f3" + "Kq9-plain", "hdrCanary" + "81Vx"];
    const hard = await ctx.secrets.get("HARD");
    const percent = encodeURIComponent(hard);
    const all = JSON.stringify(JSON.stringify({ a: [hard, percent, btoa(unescape(percent))] }));
    console.log(all, escape(hard));
    console.error(all);
    ctx.log.info(all, { all, request: ctx.request.url });
    await ctx.trace.span("a span", async () => {
      await ctx.db.sql("select $1::text as canary", [all]);
      await fetch(PROVIDER + "/?q=" + percent, {
        method: "POST",
        body: new TextEncoder().encode(all),
        headers: { Authorization: "Basic " + btoa("me:" + plain), api_key: header },
      });
    });
    if (input.fail) throw new Error(all, { cause: new Error(hard) });
    return { all, bytes: new TextEncoder().encode(all) };
"""


@contextmanager
def provider() -> Iterator[str]:
    """Answers with what it was asked, and with credentials of its own."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            asked = self.rfile.read(int(self.headers.get("content-length", 0)))
            told = json.dumps({"asked": base64.b64encode(asked).decode(), "Password": NAMED["password"]})
            body = gzip.compress(told.encode()) if self.path.endswith("gz") else told.encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.send_header("set-cookie", f"s={NAMED['cookie']}")
            self.send_header("x-auth-token", NAMED["header"])
            self.send_header("location", f"https://{NAMED['user']}@host/")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def planted() -> Iterator[tuple[Project, HttpCollector]]:
    """A project on an embedded Postgres of its own, its functions, and a collector."""
    with tempfile.TemporaryDirectory(prefix="flux-test-", dir="/tmp") as folder, provider() as url:
        root = Path(folder)
        root.chmod(0o755)
        project = Project(root, environment(LISTED=SECRETS["LISTED"], OTHER="of no concern"))
        written = SECRETS["HARD"].replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        project.write(".env", f'PLAIN={SECRETS["PLAIN"]}\nHARD="{written}"\n')
        project.write(
            "flux.toml",
            'name = "app"\nsecrets = ["LISTED"]\nredact = ["password"]\nredact_columns = ["people.Email"]\n',
        )
        project.write(
            "schema/001.sql", "CREATE TABLE people (id text PRIMARY KEY, email text, need text NOT NULL);"
        )
        project.write("functions/plant/main.py", f"PROVIDER = {url!r}\n{PYTHON}")
        project.write(
            "functions/plant/flux.json", json.dumps({"route": "/plant/{password}", "method": ["GET", "POST"]})
        )
        project.typescript("script", TYPESCRIPT.replace("PROVIDER", json.dumps(url)))
        for name in ("child", "later"):
            fails = (
                "    raise RuntimeError(await ctx.secrets.get('HARD'))\n"
                if name == "later"
                else "    return input\n"
            )
            project.write(f"functions/{name}/main.py", f"async def handler(input, ctx):\n{fails}")
        with collecting("http/protobuf") as collector:
            project.environment |= {
                "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
                "OTEL_BSP_SCHEDULE_DELAY": "50",
                "OTEL_EXPORTER_OTLP_HEADERS": f"x-key={quote(SECRETS['PLAIN'])}",
            }
            assert isinstance(collector, HttpCollector)
            yield project, collector
            project.end()


def needles() -> dict[bytes, str]:
    """Every spelling to look for, and whose it is."""
    found = {}
    for name, secret in SECRETS.items():
        for spelling, data in spellings(secret):
            # Of base64 in which something stands before or after the secret, that decides some digits too.
            inner = data[4:-6] if "base64" in spelling else data[2:-2] if "utf" in spelling else data
            if "gzip" not in spelling and "lines" not in spelling and len(inner) > 10:
                found[inner] = f"{name} ({spelling})"
    for name, value in NAMED.items():
        found |= {
            form: name
            for form in (value.encode(), base64.b64encode(value.encode())[:-4], value.encode("utf-16-le"))
        }
    return found


def plant(client: httpx.Client) -> None:
    """Every input in every encoding."""
    forms = [data.decode("latin-1") for secret in SECRETS.values() for _, data in spellings(secret)]
    whole = {"forms": forms, "password": NAMED["password"]}
    body = {
        "k": list(SECRETS.values()),
        "password": NAMED["password"],
        "j": json.dumps(json.dumps([*SECRETS.values()])),
    }
    path = f"/plant/{NAMED['password']}"
    headers = {
        "x-signature": NAMED["header"],
        "cookie": f"session={NAMED['cookie']}",
        "x-note": SECRETS["PLAIN"],
        "referer": f"https://{NAMED['user']}@host/?k={quote(SECRETS['HARD'])}",
        "x-request-id": SECRETS["PLAIN"],
        "x-utf-8": SECRETS["HARD"].encode().replace(b"\n", b" "),
    }
    # The very first request: nobody has read a secret yet.
    first = client.post(
        path + f"?Password={NAMED['password']}&k={quote(SECRETS['HARD'], safe='')}",
        json=whole,
        headers=headers,
    )
    assert first.status_code == 200, first.text
    assert json.loads(first.json()["said"]) == whole
    for fail in ("meant", "not meant"):
        assert client.post(path, json={**body, "fail": fail}, headers=headers).status_code in (422, 500)
    text = json.dumps(body)
    for content_type, content, encoding in (
        ("text/plain", text.encode(), None),
        ("text/plain", SECRETS["HARD"].encode("utf-16"), None),
        ("application/octet-stream", b"\0\1" + SECRETS["LISTED"].encode() + b"\xff", None),
        ("application/octet-stream", gzip.compress(text.encode()), None),
        (
            "application/json",
            json.dumps({"password": NAMED["password"], "n": int("9" * 4000)}).encode(),
            None,
        ),
        ("application/json", b'{"password": "pathCanary14Ya", "d": ' + b"[" * 900 + b"]" * 900 + b"}", None),
        ("application/json", gzip.compress(text.encode()), "gzip"),
        ("application/json", zlib.compress(text.encode()), "deflate"),
        ("application/json", b"\x0b" + bytes(reversed(text.encode())), "br"),
    ):
        more = {"content-encoding": encoding} if encoding else {}
        client.post(path, content=content, headers={"content-type": content_type, **more})
    client.post(path, data={"k": SECRETS["HARD"], "password": NAMED["password"], "j": text})
    client.post(path, files={"file": ("canary", text.encode()), "password": (None, NAMED["password"])})
    client.get(path, params={"k": list(SECRETS.values()), "Password": NAMED["password"]})
    client.post(f"/nowhere/{quote(SECRETS['HARD'], safe='')}", json=body, headers=headers)
    assert client.post("/script", json={}).status_code == 200
    assert client.post("/script", json={"fail": True}).status_code == 500
    assert client.post("/script", content=b'{"broken": "' + SECRETS["PLAIN"].encode()).status_code == 400


def test_no_secret_stands_in_the_record(planted: tuple[Project, HttpCollector]) -> None:
    project, collector = planted
    wanted = needles()
    finder = BytesAhoCorasick(list(wanted))
    whose = list(wanted.values())
    leaks: dict[str, set[str]] = {}

    def look(place: str, data: bytes, *, ignore: frozenset[str] = frozenset()) -> None:
        for which, start, _ in finder.find_matches_as_indexes(data):
            if whose[which] not in ignore:
                around = data[max(0, start - 60) : start + 60]
                leaks.setdefault(f"{whose[which]}: {around!r}", set()).add(place)

    def look_through(folder: Path, ignore: frozenset[str] = frozenset()) -> None:
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink():
                look(str(path.relative_to(project.root)), path.read_bytes(), ignore=ignore)

    lease = embedded.acquire(project.root / ".flux")  # holds Postgres until it was looked at
    try:
        server = project.start("dev")
        paused = server.children("flux.app.sidecar")
        server.pause_sidecar()
        with httpx.Client(base_url=server.url, timeout=30, trust_env=False) as client:
            plant(client)
        look_through(project.root / ".flux" / "spool")
        spooled = b"".join(path.read_bytes() for path in (project.root / ".flux/spool").rglob("*.seg"))
        assert all(spooled.count(b"[redacted:%s]" % name.encode()) > 50 for name in SECRETS)
        for pid in paused:
            os.kill(pid, signal.SIGCONT)
        executions: list[Any] = []

        def recorded() -> bool:
            executions[:] = project.json(
                "query", "select request_id, function, status, outcome from flux.executions"
            )
            return sum(row["function"] == "later" for row in executions) >= 2

        eventually(recorded)
        for command in (("trace", "last"), ("tail", "--no-follow"), ("logs",)):
            shown = project.flux(*command, "--json", code=None)
            look(f"flux {command[0]}", (shown.stdout + shown.stderr).encode())
        failed = next(
            row["request_id"]
            for row in executions
            if row["function"] == "script" and row["outcome"] == "error"
        )
        for command in (("trace", failed), ("why", failed)):
            shown = project.flux(*command, "--json", code=None)
            look(f"flux {command[0]}", (shown.stdout + shown.stderr).encode())
        for table in ("executions", "host_calls", "spans", "logs", "jobs", "quarantine", "resources"):
            shown = project.flux("query", f"select t.*::text from flux.{table} t", "--json", code=None)
            look(f"flux.{table}", (shown.stdout + shown.stderr).encode())
        collector.wait(lambda c: len(c.ids()) > 40)
        sent = b"".join(request.SerializeToString() for request in collector.requests)
        look("the OTLP export", sent)
        assert b"a span about [redacted:HARD]" in sent
        assert server.stop() == 0
        look("the server's output", server.output.read_bytes())

        async def checkpoint() -> None:
            connection = await asyncpg.connect(**lease.connect_args)
            await connection.execute("CHECKPOINT")
            await connection.close()

        asyncio.run(checkpoint())
        # ADR 6: rows that functions write are theirs, and in flux.mutations whole.
        look_through(project.root / ".flux", ignore=frozenset({"column"}))
    finally:
        lease.close()
    assert leaks == {}
