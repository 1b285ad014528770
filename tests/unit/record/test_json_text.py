"""What counts as JSON for a function's input: every guest reads it alike; the check itself never fails."""

from __future__ import annotations

import pytest

from flux.record.json_text import DEEPEST, BadJSON, check


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'"\\ud800"',
        b'{"a": "\\udc00\\ud800", "b": "\\\\ud800"}',
        b'{"a": 123456789012345678901234567890}',
        b"9" * 308,
        b"-1.7e308",
        b"1e-400",
        b'{"a": 1, "a": 2}',
        b"[" * DEEPEST + b"]" * DEEPEST,
        b'{"a":' * 1000 + b'"\\ud800"' + b"}" * 1000,
    ],
)
def test_json_that_every_guest_reads_is_taken(body: bytes) -> None:
    check(body)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"a": ', "line 1, column 7"),
        (b'{\n "a": x}', "line 2, column 7"),
        (b'{"a": NaN}', "unexpected character, expected a JSON value at line 1, column 7"),
        (b"[1, -Infinity]", "line 1, column"),
        (b'"\xff"', "byte 1 is 0xff"),
        (b"[" * 100_000, "nested more than 1,024 levels deep"),
        (b'{"a":' * 1025 + b"1" + b"}" * 1025, "nested more than 1,024 levels deep"),
        (b'{"n": ' + b"1" * 5000 + b"}", "a number is out of range .* at line 1, column 7"),
        (b'["\\ud800", -1e309]', "a number is out of range .* at line 1, column 12"),
        (b"1" * 400, "out of range"),
        (b'{"\\ud800": "\\udfff"', "line 1, column"),
        (b"\xef\xbb\xbf{}", "not valid JSON"),
        (b"", "not valid JSON"),
    ],
)
def test_json_that_is_not_is_refused_with_its_place(body: bytes, says: str) -> None:
    with pytest.raises(BadJSON, match=says):
        check(body)
