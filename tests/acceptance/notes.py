"""A small project whose rows say which requests it has served: `notes`, and a job's `receipts`."""

from __future__ import annotations

from tests.acceptance.conftest import Project


def write_notes(project: Project, *, receipt: str, receipt_ms: int) -> None:
    """Tables `notes` and `receipts`; functions `write` and `push` (a transaction, with a job), and the job.

    Args:
        receipt: what the job does with `input.token`, in TypeScript; receipt_ms: after how long.
    """
    project.write(
        "schema/001.sql",
        "CREATE TABLE notes (token text PRIMARY KEY);\nCREATE TABLE receipts (token text PRIMARY KEY);",
    )
    project.typescript(
        "write",
        '    await ctx.db.query({ table: "notes", operation: "insert", data: { token: input.token } });\n'
        "    return { token: input.token };",
    )
    project.typescript(
        "push",
        "    await ctx.db.transaction(async (tx) => {\n"
        '      await tx.sql("insert into notes (token) values ($1)", [input.token]);\n'
        '      await tx.queue.push("receipt", { token: input.token });\n'
        "    });\n"
        "    return { token: input.token };",
    )
    project.typescript("receipt", f"    await ctx.sleep({receipt_ms});\n    {receipt}")


def write_in_transaction(project: Project, name: str, *, hold_ms: int = 0) -> None:
    """A Python function that writes a note in a transaction, and keeps that open for a while."""
    wait = f"        await ctx.sleep({hold_ms})\n" if hold_ms else ""
    project.write(
        f"functions/{name}/main.py",
        "async def handler(input, ctx):\n"
        "    async with ctx.db.transaction() as tx:\n"
        "        await tx.execute('insert into notes (token) values ($1)', input['token'])\n"
        f"{wait}"
        "    return {'token': input['token']}\n",
    )
