"""What to do about what Postgres refused: `suggest`'s catalogue, keyed by its conditions and their states."""

from __future__ import annotations

import re

from flux.query.facts import Advice, Facts, one
from flux.shapes.why import Suggestion


def _unique(facts: Facts) -> list[Suggestion]:
    key = facts.key
    columns = key[0] if key else "the constrained columns"
    constraint = facts.detail.get("constraint") or "a unique constraint"
    reason = (
        f"`{facts.table}` already has a row with {key[0]} = {key[1]}, and `{constraint}` allows one."
        if key
        else f"`{constraint}` allows only one such row."
    )
    return [
        *one(
            f"Insert into `{facts.table}` with `on_conflict` on ({columns}), or look for the row first.",
            reason,
        ),
        *one(
            "Or catch the error where `error.type` is `unique_violation` and answer 409.",
            "A client may send the same request twice; that is no failure of the server's.",
        ),
    ]


def _not_null(facts: Facts) -> list[Suggestion]:
    column = facts.detail.get("column") or "the column"
    given = facts.execution.input
    absent = isinstance(given, dict) and column not in given
    return one(
        f"Give `{facts.table}.{column}` a value, a default in the schema, or refuse the input without it.",
        f"The input has no `{column}`, and `{facts.table}.{column}` is NOT NULL."
        if absent
        else f"`{facts.table}.{column}` is NOT NULL and the statement gave it null.",
    )


def _foreign_key(facts: Facts) -> list[Suggestion]:
    detail = facts.detail.get("detail") or ""
    key = facts.key
    other = re.search(r'table "([^"]+)"', detail)
    named = f"{key[0]} = {key[1]}" if key else "that key"
    if "still referenced" in detail and other:
        return one(
            f"Delete the rows of `{other[1]}` first, or declare the foreign key ON DELETE CASCADE.",
            f"Rows of `{other[1]}` still point at {named}.",
        )
    target = other[1] if other else "the referenced table"
    reason = f"`{target}` has no row for {named}."
    if facts.cause.call is not None and facts.cause.call.op == "db.commit":
        constraint = facts.detail.get("constraint") or "The constraint"
        reason += f" `{constraint}` is deferred, so it was checked at COMMIT."
    return [
        *one(f"Insert into `{target}` before `{facts.table}`, in one transaction.", reason),
        *(
            one(
                f'See what became of it: flux state history {target} --id "{key[1]}"',
                "A row that was there may have been deleted.",
            )
            if key and "," not in key[0]
            else []
        ),
    ]


def _check(facts: Facts) -> list[Suggestion]:
    constraint = facts.detail.get("constraint") or "a check constraint"
    return one(
        f"Check the input against `{constraint}` before writing to `{facts.table}`.",
        f"The row broke `{constraint}`: {facts.detail.get('detail') or 'its values are not allowed'}",
    )


def _undefined_table(facts: Facts) -> list[Suggestion]:
    return one(
        "Put the table into a file under schema/ and run `flux db push`.",
        f"The schema in the database is older than the code: {facts.cause.message}.",
    )


def _undefined_column(facts: Facts) -> list[Suggestion]:
    return one(
        "Correct the column's name, or add it in a file under schema/ and run `flux db push`.",
        facts.detail.get("hint") or f"{facts.cause.message[:1].upper()}{facts.cause.message[1:]}.",
    )


def _conflict(facts: Facts) -> list[Suggestion]:
    return one(
        "Run the transaction again: the same work will most likely go through.",
        "Two transactions wanted the same rows at the same time; Postgres ended one of them.",
    )


def _canceled(facts: Facts) -> list[Suggestion]:
    if "statement timeout" not in facts.cause.message:
        return []
    return one(
        "Give the statement less to do (an index, fewer rows), or raise `statement_timeout`.",
        f"It was stopped{_after(facts)}, which is as long as `statement_timeout` allows.",
    )


def _locked(facts: Facts) -> list[Suggestion]:
    limit = "lock timeout" in facts.cause.message
    return one(
        "Keep the transactions short that lock the same rows, or run this one again.",
        f"Another transaction held the lock; it was given up{_after(facts)}, as `lock_timeout` says."
        if limit
        else "Another transaction held the lock, and the statement was not to wait for it.",
    )


def _lost(facts: Facts) -> list[Suggestion]:
    """Whether to do it again: what Postgres did not come to say, the rows do."""
    call = facts.cause.call
    if call is None or call.tx is None:
        return one(
            "Find out whether the statement was done before you run it again.",
            "The connection to Postgres ended before its answer came.",
        )
    if call.op != "db.commit":
        return one(
            "Run the transaction again.",
            "The connection ended before COMMIT was sent, so the transaction was rolled back.",
        )
    document = facts.cause.document
    inside = {each.seq for each in document.host_calls if each.tx == call.tx}
    rows = [mutation.rolled_back for mutation in document.mutations if mutation.seq in inside]
    if not rows:
        return one(
            "Find out whether the transaction was committed before you run it again.",
            "The connection ended before Postgres' answer to COMMIT came, and no changed row shows it.",
        )
    if all(rows):
        return one(
            "Run the transaction again.",
            "Postgres' answer to COMMIT never came, and none of its rows is there: it was rolled back.",
        )
    return one(
        "Don't run the transaction again: it is done.",
        "Postgres' answer to COMMIT never came, but the rows are there: it was committed.",
    )


def _away(facts: Facts) -> list[Suggestion]:
    """Nothing was sent: to do it again can do nothing twice."""
    return [
        *one(
            "See whether Postgres runs and can be reached: flux doctor",
            "The database could not be reached, so nothing of this statement was done.",
        ),
        *one(
            "Send the request again once it is back: Flux connects by itself.",
            "The function did not catch the error.",
        ),
    ]


def _crowded(facts: Facts) -> list[Suggestion]:
    return [
        *one(
            "See who holds connections for long: flux search --status 503, and flux doctor for locks.",
            "No connection came free before the function's time was over.",
        ),
        *one(
            "If the transactions are short, raise `pool_size` in flux.toml (and Postgres' max_connections).",
            "A function may hold three quarters of the pool; the rest is kept for others.",
        ),
    ]


def _after(facts: Facts) -> str:
    call = facts.cause.call
    return f" after {call.duration_ms:,.0f} ms" if call is not None and call.duration_ms else ""


CATALOGUE: dict[str, Advice] = {
    "unique_violation": _unique,
    "23505": _unique,
    "not_null_violation": _not_null,
    "23502": _not_null,
    "foreign_key_violation": _foreign_key,
    "23503": _foreign_key,
    "check_violation": _check,
    "23514": _check,
    "undefined_table": _undefined_table,
    "42P01": _undefined_table,
    "undefined_column": _undefined_column,
    "42703": _undefined_column,
    "serialization_failure": _conflict,
    "deadlock_detected": _conflict,
    "40001": _conflict,
    "40P01": _conflict,
    "query_canceled": _canceled,
    "57014": _canceled,
    "lock_not_available": _locked,
    "55P03": _locked,
    "sqlclient_unable_to_establish_sqlconnection": _away,
    "08001": _away,
    "cannot_connect_now": _away,
    "57P03": _away,
    "too_many_connections": _crowded,
    "53300": _crowded,
    "connection_failure": _lost,
    "08006": _lost,
}
