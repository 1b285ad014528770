"""Reading an expression: tokens, then recursive descent."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

import orjson

from flux.errors import UsageError
from flux.expression.names import HINTS, ROOTS, Test, reader
from flux.expression.operators import compare, contains, equal
from flux.shapes.record import Trace

_TOKEN: Final = re.compile(
    r"""\s*(?:
        (?P<number>-?\d+(?:\.\d+)?(?:ms|s|m|h)?(?![\w.]))
      | (?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
      | (?P<sign><=|>=|==|!=|<>|[=<>(),.\[\]])
      | (?P<word>[^\s"'<>=!(),.\[\]]+)
      | (?P<wrong>.)
    )""",
    re.VERBOSE | re.DOTALL,
)
_UNITS: Final = {"ms": Decimal(1), "s": Decimal(1000), "m": Decimal(60_000), "h": Decimal(3_600_000)}
_SIGNS: Final = {"=", "==", "!=", "<>", "<", "<=", ">", ">="}
DEEPEST: Final = 100
"""Parentheses and nots inside each other."""


@dataclass(frozen=True)
class Expression:
    """A parsed expression.

    Attributes:
        text: as it was written.
    """

    text: str
    _test: Test

    def holds(self, trace: Trace) -> bool:
        """Whether it is true of an execution. Never raises on what a record holds."""
        return bool(self._test(trace))


def parse(text: str) -> Expression:
    """Read an expression.

    Raises:
        UsageError: it is none; the message shows where.
    """
    return Expression(text, _Parser(text).whole())


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    at: int


class _Parser:
    """Recursive descent over the tokens of one text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = [
            _Token(match.lastgroup or "", match[match.lastgroup or 0], match.start(match.lastgroup or 0))
            for match in _TOKEN.finditer(text.rstrip())
        ]
        self._tokens.append(_Token("end", "", len(text)))
        self._next = 0
        self._depth = 0

    def whole(self) -> Test:
        if self._peek.kind == "end":
            raise UsageError("The expression is empty.", "For example: status != 200")
        test = self._either()
        if self._peek.kind != "end":
            raise self._wrong("`and`, `or` or the end")
        return test

    def _either(self) -> Test:
        tests = [self._both()]
        while self._takes("word", "or"):
            tests.append(self._both())
        return tests[0] if len(tests) == 1 else lambda trace: any(bool(test(trace)) for test in tests)

    def _both(self) -> Test:
        tests = [self._negated()]
        while self._takes("word", "and"):
            tests.append(self._negated())
        return tests[0] if len(tests) == 1 else lambda trace: all(bool(test(trace)) for test in tests)

    def _negated(self) -> Test:
        if not self._takes("word", "not"):
            return self._compared()
        self._deeper()
        test = self._negated()
        self._depth -= 1
        return lambda trace: not bool(test(trace))

    def _compared(self) -> Test:
        left = self._operand()
        token = self._peek
        if token.kind == "sign" and token.text in _SIGNS:
            self._next += 1
            right, sign = self._operand(), token.text
            return lambda trace: compare(left(trace), sign, right(trace))
        if self._takes("word", "contains"):
            right = self._operand()
            return lambda trace: contains(left(trace), right(trace))
        if self._takes("word", "in"):
            self._expect("(")
            choices = [self._operand()]
            while self._takes("sign", ","):
                choices.append(self._operand())
            self._expect(")")
            return lambda trace: any(equal(left(trace), choice(trace)) for choice in choices)
        return left

    def _operand(self) -> Test:
        token = self._peek
        if self._takes("sign", "("):
            self._deeper()
            test = self._either()
            self._expect(")")
            self._depth -= 1
            return test
        if token.kind == "number":
            self._next += 1
            number = _number(token.text)
            return lambda _: number
        if token.kind == "text":
            self._next += 1
            value = _unquoted(token.text)
            return lambda _: value
        if token.kind == "word":
            constant = {"true": True, "false": False, "null": None}
            if token.text in constant:
                self._next += 1
                fixed = constant[token.text]
                return lambda _: fixed
            return self._path()
        raise self._wrong("a name, a value or `(`")

    def _path(self) -> Test:
        root = self._peek
        self._next += 1
        steps: list[str | int] = []
        while True:
            if self._takes("sign", "."):
                step = self._peek
                if step.kind not in ("word", "text", "number"):
                    raise self._wrong("a name")
                self._next += 1
                steps.append(_unquoted(step.text) if step.kind == "text" else step.text)
            elif self._takes("sign", "["):
                step = self._peek
                if step.kind not in ("number", "text"):
                    raise self._wrong("a number or a name in quotes")
                self._next += 1
                self._expect("]")
                steps.append(_unquoted(step.text) if step.kind == "text" else int(_number(step.text)))
            else:
                break
        found = reader(root.text, steps)
        if found is None:
            named = ".".join([root.text, *map(str, steps)])
            raise UsageError(
                f"`{named}` names nothing of an execution.\n{self._mark(root)}",
                f"It can begin with: {', '.join(ROOTS)}."
                if root.text not in ROOTS
                else HINTS.get(root.text, f"`{root.text}` has no members."),
            )
        return found

    @property
    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _takes(self, kind: str, text: str) -> bool:
        token = self._peek
        if token.kind != kind or (token.text.lower() if kind == "word" else token.text) != text:
            return False
        self._next += 1
        return True

    def _expect(self, sign: str) -> None:
        if not self._takes("sign", sign):
            raise self._wrong(f"`{sign}`")

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > DEEPEST:
            raise UsageError(f"The expression is nested more than {DEEPEST} deep.")

    def _wrong(self, wanted: str) -> UsageError:
        token = self._peek
        found = f"`{token.text}`" if token.text else "its end"
        return UsageError(f"The expression has {found} where {wanted} should be.\n{self._mark(token)}")

    def _mark(self, token: _Token) -> str:
        return f"  {self._text}\n  {' ' * token.at}^"


def _number(text: str) -> Decimal:
    unit = re.search(r"[a-z]+$", text)
    return Decimal(text) if unit is None else Decimal(text[: unit.start()]) * _UNITS[unit[0]]


def _unquoted(text: str) -> str:
    inner = text[1:-1]
    try:
        value = orjson.loads(
            f'"{inner}"' if text[0] == '"' else '"{}"'.format(inner.replace('"', '\\"').replace("\\'", "'"))
        )
    except orjson.JSONDecodeError:
        return inner
    return str(value)
