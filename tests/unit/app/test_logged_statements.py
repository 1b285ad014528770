"""What doctor says of a Postgres that writes statements into its own log."""

from __future__ import annotations

import pytest

from flux.app.doctor.database import _logged

QUIET = {
    "log_min_messages": "warning",
    "log_statement": "none",
    "log_min_duration_statement": "-1",
    "log_min_error_statement": "panic",
}


@pytest.mark.parametrize(
    ("changed", "shown"),
    [
        ({}, []),
        ({"log_min_error_statement": "error"}, ["log_min_error_statement = error"]),
        ({"log_statement": "ddl"}, ["log_statement = ddl"]),
        ({"log_min_duration_statement": "0"}, ["log_min_duration_statement = 0"]),
        ({"auto_explain.log_min_duration": "100"}, ["auto_explain.log_min_duration = 100"]),
        ({"log_statement": "all", "log_min_messages": "fatal"}, []),
    ],
)
def test_settings_that_show_statements_are_named(changed: dict[str, str], shown: list[str]) -> None:
    assert _logged({**QUIET, **changed}) == shown
