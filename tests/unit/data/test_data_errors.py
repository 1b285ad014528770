"""Errors of the database as a function sees them."""

from __future__ import annotations

import asyncpg

from flux.data.errors import Refused, call_error


def test_a_server_error_has_the_conditions_name_and_the_servers_fields() -> None:
    error = asyncpg.PostgresError.new(
        {
            "C": "23505",
            "M": "duplicate",
            "S": "ERROR",
            "D": "Key (a)=(1)",
            "n": "t_a",
            "t": "t",
            "s": "public",
            "P": "7",
        }
    )
    told = call_error(error)
    assert (told.type, told.message) == ("unique_violation", "duplicate")
    assert told.detail == {
        "sqlstate": "23505",
        "detail": "Key (a)=(1)",
        "constraint": "t_a",
        "table": "t",
        "schema": "public",
        "position": "7",
    }


def test_a_condition_that_a_function_raised_itself_keeps_its_state() -> None:
    assert call_error(asyncpg.PostgresError.new({"C": "FX001", "M": "own"})).type == "sqlstate_FX001"


def test_a_lost_connection_says_that_the_outcome_is_unknown() -> None:
    told = call_error(asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation"))
    assert told.type == "connection_failure"
    assert told.detail == {"sqlstate": "08006"}
    assert "not known" in told.message
    assert call_error(asyncpg.InterfaceError("connection is closed")).type == "connection_failure"


def test_a_server_that_cannot_be_reached_is_another_error() -> None:
    told = call_error(ConnectionRefusedError(111, "Connection refused"))
    assert told.type == "sqlclient_unable_to_establish_sqlconnection"
    assert told.detail == {"sqlstate": "08001"}


def test_what_flux_refuses_has_the_sqlstate_of_its_condition() -> None:
    assert call_error(Refused("no_active_sql_transaction", "x")).detail == {"sqlstate": "25P01"}
    assert call_error(Refused("invalid_parameter", "x")).detail == {}
