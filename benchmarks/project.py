"""The work that is measured, as a Flux project: hello, and hello with one INSERT. Each contestant does the
same in its own way (bare.py, traced.py, durable.py).
"""

from __future__ import annotations

import json
from pathlib import Path

HELLO = """import { defineFunction } from "@flux/functions";
export default defineFunction({
  name: "hello",
  handler: async ({ input }) => ({ message: `Hello, ${input.name ?? "world"}!` }),
});
"""
INSERT = """import { defineFunction } from "@flux/functions";
export default defineFunction({
  name: "insert",
  handler: async ({ input, ctx }) => {
    const [row] = await ctx.db.query({ table: "notes", operation: "insert", data: { text: input.text } });
    return { id: row.id };
  },
});
"""
SCHEMA = "CREATE TABLE notes (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, text text NOT NULL)"
FUNCTIONS = (("hello", HELLO, "GET"), ("insert", INSERT, "POST"))
WORKLOADS = {"hello": "hello", "insert": "hello with one INSERT"}
REQUESTS = {
    "hello": ["--method", "GET", "--path", "/hello?name=Ada"],
    "insert": ["--method", "POST", "--path", "/insert", "--body", '{"text":"a note"}'],
}
"""What load.py sends for each."""


def write_project(root: Path, record: str = "all") -> Path:
    """A project that serves both functions with `record`; its folder."""
    for name, source, method in FUNCTIONS:
        folder = root / "functions" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "index.ts").write_text(source)
        (folder / "flux.json").write_text(json.dumps({"method": method, "record": record}))
    (root / "flux.toml").write_text('name = "bench"\n')
    return root
