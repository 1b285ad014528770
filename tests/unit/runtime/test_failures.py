"""Errors of executions as a client is told of them."""

from __future__ import annotations

import pytest

from flux.errors import FunctionError
from flux.runtime.failures import explain


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("sqlclient_unable_to_establish_sqlconnection", 503),
        ("cannot_connect_now", 503),
        ("too_many_connections", 503),
        ("connection_failure", 500),
        ("unique_violation", 500),
    ],
)
def test_a_function_that_could_not_have_the_database_may_be_asked_again(kind: str, status: int) -> None:
    assert explain(FunctionError(kind, "it failed"))[0] == status
