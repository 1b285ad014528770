"""secrets.get: what functions may read, and that every value read is known to redaction first."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flux.host.secrets import Secrets
from flux.record.call import HostCall, Outcome
from flux.recorder.redaction import Redaction

KEY = bytes(range(32))


def get(secrets: Secrets, **arguments: Any) -> Outcome:
    return secrets.get(HostCall(op="secrets.get", arguments=json.dumps(arguments).encode(), n=1))


def test_a_secret_is_answered_and_told_to_redaction_with_its_version() -> None:
    redaction = Redaction()
    secrets = Secrets({"TOKEN": "hunter2hunter2"}, redaction, KEY)
    assert get(secrets, key="TOKEN", fallback="no").result == b'{"value":"hunter2hunter2"}'
    version = secrets.version("TOKEN", "hunter2hunter2")
    assert redaction.secret_version("TOKEN", "hunter2hunter2") == version
    assert redaction.secrets.within(b"... hunter2hunter2 ...")


def test_a_version_tells_values_apart_by_the_key_and_gives_nothing_away() -> None:
    one, other = Secrets({}, Redaction(), KEY), Secrets({}, Redaction(), bytes(32))
    assert one.version("A", "x") == one.version("A", "x")
    assert (
        len({one.version("A", "x"), one.version("A", "y"), one.version("B", "x"), other.version("A", "x")})
        == 4
    )
    assert len(one.version("A", "x")) == 12
    assert Secrets({}, Redaction()).version("A", "x") == "env"


def test_a_missing_secret_is_its_fallback_which_is_no_secret() -> None:
    redaction = Redaction()
    assert get(Secrets({}, redaction, KEY), key="TOKEN", fallback="").result == b'{"value":""}'
    assert get(Secrets({}, redaction, KEY), key="TOKEN", fallback="harmless text").error is None
    assert redaction.secret_version("TOKEN", "harmless text") is None
    assert not redaction.secrets.within(b"harmless text")


def test_a_missing_secret_without_fallback_says_where_to_put_it() -> None:
    error = get(Secrets({}, Redaction(), KEY), key="TOKEN").error
    assert error is not None
    assert (error.type, error.detail) == ("secret_not_found", {"name": "TOKEN"})
    assert "`TOKEN=...`" in error.message
    assert ".env" in error.message


def test_an_empty_secret_is_found() -> None:
    assert get(Secrets({"E": ""}, Redaction(), KEY), key="E", fallback="f").result == b'{"value":""}'


@pytest.mark.parametrize("name", ["FLUX_MASTER_KEY", "DATABASE_URL", "FLUX_DATABASE_URL", "PGPASSWORD"])
def test_what_belongs_to_flux_is_not_handed_out(name: str) -> None:
    secrets = Secrets({name: "hunter2hunter2"}, Redaction(), KEY)
    error = get(secrets, key=name).error
    assert error is not None
    assert error.type == "secret_not_found"
    assert "hunter2" not in error.message
    assert get(secrets, key=name, fallback="x").result == b'{"value":"x"}'
