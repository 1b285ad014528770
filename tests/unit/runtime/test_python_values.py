"""Values, responses and random bytes of the Python guest, without a process."""

from __future__ import annotations

import importlib
import json
from decimal import Decimal
from types import ModuleType

import pytest

from flux.runtime.python import GUEST


@pytest.fixture
def values(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(GUEST))
    return importlib.import_module("flux_guest.values")


@pytest.fixture
def functions(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(GUEST))
    return importlib.import_module("flux_functions")


def test_json_is_compact_and_keeps_text_as_it_is(values: ModuleType) -> None:
    assert (
        values.dumps({"é": [1, 2.5, None, True, 2**70]})
        == '{"é":[1,2.5,null,true,1180591620717411303424]}'.encode()
    )


def test_rows_get_python_values_by_their_types(values: ModuleType) -> None:
    document = {
        "rows": [
            {"id": "1", "price": "NaN", "raw": None, "when": "2026-01-01T00:00:00+00:00"},
            {"id": None, "price": "1e3", "raw": {"$bytea": "AA=="}, "when": None},
        ],
        "count": 2,
        "tag": "SELECT 2",
        "types": {"id": "int8", "price": "numeric", "raw": "bytea", "when": "timestamptz"},
    }
    found = values.rows(json.dumps(document).encode())
    assert (found.count, found.tag) == (2, "SELECT 2")
    assert [row["id"] for row in found] == [1, None]
    assert found[0]["price"].is_nan()
    assert found[1]["price"] == Decimal(1000)
    assert [row["raw"] for row in found] == [None, b"\0"]
    assert found[0]["when"] == "2026-01-01T00:00:00+00:00"


def test_nesting_beyond_reason_is_refused_by_name(values: ModuleType) -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(values.NotJSON, match="nested too deeply"):
        values.dumps(deep)


@pytest.mark.parametrize("status", [99, 199, 600, "200", True, None])
def test_a_response_refuses_a_status_that_is_none(functions: ModuleType, status: object) -> None:
    with pytest.raises(ValueError, match="status"):
        functions.Response(status=status)


@pytest.mark.parametrize(
    "headers", [{"a b": "1"}, {"a": "x\r\ny"}, {"": "1"}, {"a": "\u20ac"}, {"a": "x" * 70_000}, [(1, "x")]]
)
def test_a_response_refuses_headers_that_http_cannot_carry(functions: ModuleType, headers: object) -> None:
    with pytest.raises(ValueError, match="header"):
        functions.Response("x", headers=headers)


def test_a_validation_error_always_has_fields(functions: ModuleType) -> None:
    assert functions.ValidationError("is empty").fields == {"input": "is empty"}
    assert functions.ValidationError({}).fields == {"input": "The input is not valid."}
    assert functions.ValidationError({"a": 1}, "no").message == "no"


def test_random_bytes_depend_on_the_seed_and_not_on_how_they_are_drawn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(GUEST))
    sources = importlib.import_module("flux_guest.sources").Sources
    whole = sources("11" * 32, 0).random_bytes(1000)
    piecewise = sources("11" * 32, 0)
    assert b"".join(piecewise.random_bytes(size) for size in (1, 63, 64, 65, 0, 807)) == whole
    assert sources("12" * 32, 0).random_bytes(1000) != whole


def test_the_public_names_are_these(functions: ModuleType) -> None:
    assert sorted(functions.__all__) == [
        "DatabaseError",
        "FetchError",
        "HostError",
        "InvocationOver",
        "InvokeError",
        "NotPermitted",
        "QueueError",
        "Response",
        "SecretError",
        "ValidationError",
    ]
    assert all(hasattr(functions, name) for name in functions.__all__)


@pytest.mark.parametrize(
    "text",
    [
        *("0", "-1.5e3", "1E5", '"\\u00e9\\n"', "[]", "{}", "[1, [2, {}], []]", " [ 1 , 2 ] "),
        '{"a": {"b": [null, true]}, "c": ""}',
    ],
)
def test_deep_json_reads_as_json_does(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.syspath_prepend(str(GUEST))
    assert importlib.import_module("flux_guest.deep_json").parse(text) == json.loads(text)


@pytest.mark.parametrize(
    "text",
    ["", "[", "[1", "[1 2]", "[1,]", "{1:2}", '{"a"}', '{"a":1', "nul", "01", "[1]]", '"a', "NaN"],
)
def test_deep_json_refuses_what_is_none(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.syspath_prepend(str(GUEST))
    with pytest.raises(ValueError):
        importlib.import_module("flux_guest.deep_json").parse(text)
