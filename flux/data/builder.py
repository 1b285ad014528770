"""db.query's specification as SQL. Called by flux.data.session.

Pure and deterministic: the same shape gives the same text, so it stays prepared. Every name is
quoted, every value bound.

Filters: `{"age": 5}`, `{"age": null}` (IS NULL), `{"id": [1, 2]}` (any of them),
`{"age": {"gte": 18, "lt": 65}}`, and `{"or": [{...}, {...}]}`, `{"and": [...]}`, `{"not": {...}}`.
A column whose name is one of these three words needs db.sql.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from decimal import Decimal
from functools import lru_cache
from typing import Any, Literal

import msgspec

from flux.data.errors import Refused
from flux.data.values import parameter
from flux.store.identifiers import quote

_COMPARISONS = {
    "eq": "=",
    "ne": "<>",
    "gt": ">",
    "gte": ">=",
    "lt": "<",
    "lte": "<=",
    "like": "LIKE",
    "ilike": "ILIKE",
}
_OPERATORS = (*_COMPARISONS, "in", "not_in", "is_null", "between")
_GROUPS = ("and", "or", "not")
_KEYS = {
    "select": {"filters", "columns", "order", "limit", "offset"},
    "insert": {"data", "returning", "on_conflict"},
    "update": {"filters", "data", "returning", "all"},
    "delete": {"filters", "returning", "all"},
}
_DIRECTIONS = {"asc": " ASC", "desc": " DESC"}
_NULLS = {"first": " NULLS FIRST", "last": " NULLS LAST"}
_DEPTH = 20
_SCALARS = frozenset({str, int, bool, Decimal, type(None)})

_Object = dict[str, msgspec.Raw]
_read_object = msgspec.json.Decoder(_Object)
_read_list = msgspec.json.Decoder(list[msgspec.Raw])


class Query(msgspec.Struct, frozen=True):
    """What to send: `text` with $1, $2..., and its parameters as values.parameter makes them."""

    text: str
    params: list[Any]
    operation: str
    """SELECT, INSERT, UPDATE or DELETE."""
    table: str


class _OneRow(msgspec.Struct, forbid_unknown_fields=True):
    """The commonest of all: one row, nothing else said."""

    table: str
    operation: Literal["insert"]
    data: dict[str, Any]


_read_one_row = msgspec.json.Decoder(_OneRow, float_hook=Decimal)


def build(arguments: bytes) -> Query:
    """SQL for the arguments of db.query.

    Args:
        arguments: a JSON object: `table`, `operation` and what the operation takes; null stands for a key
            left out.

    Raises:
        Refused: `invalid_parameter`: something in it is unknown, missing or of the wrong kind; says where.
    """
    if b'"insert"' in arguments and (query := _one_row(arguments)) is not None:
        return query
    spec = {
        key: value
        for key, value in _object(msgspec.Raw(arguments), "the query").items()
        if bytes(value) != b"null"
    }
    operation = _text(spec.pop("operation", None), "operation")
    if operation not in _KEYS:
        raise _unknown("operation", operation, _KEYS)
    table = _text(spec.pop("table", None), "table")
    for key in spec:
        if key not in _KEYS[operation]:
            if any(key in keys for keys in _KEYS.values()):
                raise _refused(f"`{key}` has no meaning in `{operation}`")
            raise _unknown("key", key, {"table", "operation", *_KEYS[operation]})
    name = _table(table)
    return Query(*_Statement(spec).build(operation, name), operation.upper(), table)


def _one_row(arguments: bytes) -> Query | None:
    """What `build` makes of an _OneRow whose values are scalars, in one reading; None where it is none."""
    try:
        asked = _read_one_row.decode(arguments)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    params = list(asked.data.values())
    if not asked.table or not params or not _SCALARS.issuperset(map(type, params)):
        return None
    return Query(_insert_one(asked.table, tuple(asked.data)), params, "INSERT", asked.table)


@lru_cache(maxsize=1024)
def _insert_one(table: str, columns: tuple[str, ...]) -> str:
    values = ", ".join(f"${number}" for number in range(1, len(columns) + 1))
    return f"INSERT INTO {_table(table)} ({_names(columns, 'data')}) VALUES ({values}) RETURNING *"


class _Statement:
    """One statement under construction: its clauses number their parameters as they are written."""

    def __init__(self, spec: _Object) -> None:
        self._spec = spec
        self._params: list[Any] = []

    def build(self, operation: str, table: str) -> tuple[str, list[Any]]:
        match operation:
            case "select":
                text = self._select(table)
            case "insert":
                text = self._insert(table)
            case "update":
                text = self._update(table)
            case _:
                text = f"DELETE FROM {table}{self._required_where('delete')}{self._returning()}"
        return text, self._params

    def _select(self, table: str) -> str:
        columns = self._columns("columns")
        text = f"SELECT {columns} FROM {table}{self._where()}{self._order()}"
        for key in ("limit", "offset"):
            if key in self._spec:
                text += f" {key.upper()} {self._bind(_count(self._spec[key], key))}::bigint"
        return text

    def _insert(self, table: str) -> str:
        if "data" not in self._spec:
            raise _refused("`insert` needs `data`: an object, or a list of objects")
        rows = [
            _object(row, f"data[{at}]") for at, row in enumerate(_one_or_many(self._spec["data"], "data"))
        ]
        if not rows:
            raise _refused("`data` is an empty list: there is nothing to insert")
        columns = list(dict.fromkeys(column for row in rows for column in row))
        if not columns and len(rows) > 1:
            raise _refused("`data`: several rows of nothing but defaults; insert them one by one")
        if not columns:
            source = " DEFAULT VALUES"
        else:
            tuples = (
                "(" + ", ".join(self._value(row[c]) if c in row else "DEFAULT" for c in columns) + ")"
                for row in rows
            )
            source = f" ({_names(columns, 'data')}) VALUES {', '.join(tuples)}"
        return f"INSERT INTO {table}{source}{self._on_conflict(columns)}{self._returning()}"

    def _update(self, table: str) -> str:
        if "data" not in self._spec:
            raise _refused("`update` needs `data`: an object of columns and their new values")
        data = _object(self._spec["data"], "data")
        if not data:
            raise _refused("`data` is empty: there is nothing to update")
        sets = ", ".join(f"{_name(column, 'data')} = {self._value(value)}" for column, value in data.items())
        return f"UPDATE {table} SET {sets}{self._required_where('update')}{self._returning()}"

    def _on_conflict(self, inserted: list[str]) -> str:
        if "on_conflict" not in self._spec:
            return ""
        conflict = _object(self._spec["on_conflict"], "on_conflict")
        _known(conflict, ("columns", "constraint", "do", "update"), "key", "in on_conflict")
        target = ""
        columns = _texts(conflict["columns"], "on_conflict.columns") if "columns" in conflict else []
        if columns and "constraint" in conflict:
            raise _refused("on_conflict takes `columns` or `constraint`, not both")
        if columns:
            target = f" ({_names(columns, 'on_conflict.columns')})"
        elif "constraint" in conflict:
            name = _text(conflict["constraint"], "on_conflict.constraint")
            target = f" ON CONSTRAINT {_name(name, 'on_conflict.constraint')}"
        action = _text(conflict["do"], "on_conflict.do") if "do" in conflict else "update"
        if action == "nothing":
            return f" ON CONFLICT{target} DO NOTHING"
        if action != "update":
            raise _unknown("on_conflict.do", action, ("nothing", "update"))
        if not target:
            raise _refused("on_conflict with `update` needs `columns` or `constraint`")
        if "update" in conflict:
            updated = _texts(conflict["update"], "on_conflict.update")
        else:
            updated = [column for column in inserted if column not in columns]
        if not updated:
            raise _refused(
                'on_conflict has no columns to update; say `"do": "nothing"` or list them in `update`'
            )
        sets = ", ".join(f"{n} = EXCLUDED.{n}" for n in (_name(c, "on_conflict.update") for c in updated))
        return f" ON CONFLICT{target} DO UPDATE SET {sets}"

    def _returning(self) -> str:
        columns = self._columns("returning")
        return f" RETURNING {columns}" if columns else ""

    def _columns(self, key: str) -> str:
        if key not in self._spec:
            return "*"
        columns = _texts(self._spec[key], key)
        if columns == ["*"]:
            return "*"
        if not columns and key == "columns":
            raise _refused("`columns` is an empty list; leave it out for all columns")
        return _names(columns, key)

    def _required_where(self, operation: str) -> str:
        everything = "all" in self._spec and parameter(self._spec["all"]) is True
        where = self._where()
        if not where and not everything:
            raise _refused(
                f"`{operation}` without filters would touch every row; if that is meant: "
                '`"filters": {}, "all": true`'
            )
        if not where and "filters" not in self._spec:
            raise _refused(f'`{operation}` of every row takes `"filters": {{}}` beside `"all": true`')
        if where and everything:
            raise _refused('`"all": true` together with filters: leave one of them out')
        return where

    def _where(self) -> str:
        if "filters" not in self._spec:
            return ""
        condition = self._group(_object(self._spec["filters"], "filters"), "filters", 0)
        return f" WHERE {condition}" if condition else ""

    def _group(self, filters: _Object, where: str, depth: int) -> str:
        if depth > _DEPTH:
            raise _refused(f"{where}: nested too deeply")
        parts: list[str] = []
        for key, raw in filters.items():
            at = f"{where}.{key}"
            if key == "not":
                inner = self._group(_object(raw, at), at, depth + 1)
                parts.append(f"NOT ({inner or 'true'})")
            elif key in _GROUPS:
                members = [
                    self._group(_object(member, f"{at}[{i}]"), f"{at}[{i}]", depth + 1)
                    for i, member in enumerate(_list(raw, at))
                ]
                empty = "true" if key == "and" else "false"
                joined = f" {key.upper()} ".join(f"({member or 'true'})" for member in members)
                parts.append(f"({joined})" if members else empty)
            else:
                parts.append(self._filter(_name(key, where), raw, at))
        return " AND ".join(parts)

    def _filter(self, column: str, raw: msgspec.Raw, where: str) -> str:
        first = bytes(raw)[:1]
        if first == b"n":
            return f"{column} IS NULL"
        if first == b"[":
            return f"{column} = ANY({self._bind(parameter(raw))})"
        if first != b"{":
            return f"{column} = {self._value(raw)}"
        operators = _object(raw, where)
        if not operators:
            raise _refused(f"{where}: an empty object; it takes operators: {', '.join(_OPERATORS)}")
        if operators.keys() == {"$bytea"}:
            return f"{column} = {self._value(raw)}"
        _known(operators, _OPERATORS, "operator", f"in {where}")
        return " AND ".join(
            self._operator(column, op, operand, f"{where}.{op}") for op, operand in operators.items()
        )

    def _operator(self, column: str, operator: str, raw: msgspec.Raw, where: str) -> str:
        value = parameter(raw)
        if operator == "is_null":
            if not isinstance(value, bool):
                raise _refused(f"{where} must be true or false")
            return f"{column} IS {'' if value else 'NOT '}NULL"
        if operator in {"in", "not_in", "between"}:
            items = _list(raw, where)
            if operator == "between":
                if len(items) != 2:
                    raise _refused(f"{where} must be a list of two values: the least and the greatest")
                return f"{column} BETWEEN {self._value(items[0])} AND {self._value(items[1])}"
            bound = self._bind(value)
            return f"{column} = ANY({bound})" if operator == "in" else f"{column} <> ALL({bound})"
        if value is None:
            if operator not in {"eq", "ne"}:
                raise _refused(f"{where} is null; compare with `eq`, `ne` or `is_null`")
            return f"{column} IS {'NOT ' if operator == 'ne' else ''}NULL"
        return f"{column} {_COMPARISONS[operator]} {self._bind(value)}"

    def _order(self) -> str:
        if "order" not in self._spec:
            return ""
        raw = self._spec["order"]
        entries = _list(raw, "order") if bytes(raw)[:1] == b"[" else [raw]
        terms = [self._term(entry, f"order[{at}]") for at, entry in enumerate(entries)]
        return f" ORDER BY {', '.join(terms)}" if terms else ""

    def _term(self, raw: msgspec.Raw, where: str) -> str:
        if bytes(raw)[:1] != b"{":
            text = _text(raw, where)
            return f"{_name(text.removeprefix('-'), where)}{' DESC' if text.startswith('-') else ''}"
        entry = _object(raw, where)
        _known(entry, ("column", "direction", "nulls"), "key", f"in {where}")
        term = _name(_text(entry.get("column"), f"{where}.column"), where)
        for key, words in (("direction", _DIRECTIONS), ("nulls", _NULLS)):
            if key in entry:
                word = _text(entry[key], f"{where}.{key}").lower()
                if word not in words:
                    raise _unknown(f"{where}.{key}", word, words)
                term += words[word]
        return term

    def _value(self, raw: msgspec.Raw) -> str:
        return self._bind(parameter(raw))

    def _bind(self, value: Any) -> str:
        self._params.append(value)
        return f"${len(self._params)}"


@lru_cache(maxsize=1024)
def _table(table: str) -> str:
    parts = table.split(".")
    if len(parts) > 2:
        raise _refused(f"table `{table}`: at most a schema and a name, divided by one dot")
    return ".".join(_name(part, "table") for part in parts)


def _names(columns: Iterable[str], where: str) -> str:
    return ", ".join(_name(column, where) for column in columns)


@lru_cache(maxsize=4096)
def _name(name: str, where: str) -> str:
    try:
        return quote(name)
    except ValueError as error:
        raise _refused(f"{where}: {error}") from error


def _object(raw: msgspec.Raw, where: str) -> _Object:
    try:
        return _read_object.decode(raw)
    except msgspec.DecodeError as error:
        raise _refused(f"{where} must be an object") from error


def _list(raw: msgspec.Raw, where: str) -> list[msgspec.Raw]:
    try:
        return _read_list.decode(raw)
    except msgspec.DecodeError as error:
        raise _refused(f"{where} must be a list") from error


def _one_or_many(raw: msgspec.Raw, where: str) -> list[msgspec.Raw]:
    return _list(raw, where) if bytes(raw)[:1] == b"[" else [raw]


def _text(raw: msgspec.Raw | None, where: str) -> str:
    value = None if raw is None else parameter(raw)
    if not isinstance(value, str) or not value:
        raise _refused(f"{where} must be a string" if raw is not None else f"{where} is missing")
    return value


def _texts(raw: msgspec.Raw, where: str) -> list[str]:
    return [_text(item, f"{where}[{at}]") for at, item in enumerate(_one_or_many(raw, where))]


def _count(raw: msgspec.Raw, where: str) -> int:
    value = parameter(raw)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        raise _refused(f"{where} must be a whole number of 0 or more")
    return value


def _known(given: Iterable[str], known: Iterable[str], what: str, where: str) -> None:
    names = list(known)
    for name in given:
        if name not in names:
            raise _unknown(f"{what}", name, names, f" {where}")


def _unknown(what: str, given: str, known: Iterable[str], where: str = "") -> Refused:
    names = sorted(known)
    close = difflib.get_close_matches(given, names, n=1)
    advice = f"did you mean `{close[0]}`?" if close else f"known: {', '.join(names)}"
    return _refused(f"unknown {what} `{given}`{where}; {advice}")


def _refused(what: str) -> Refused:
    return Refused("invalid_parameter", f"db.query: {what}.")
