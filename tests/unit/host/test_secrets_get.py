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
    secrets = Secrets(redaction, {"TOKEN": "hunter2hunter2"}, master_key=KEY)
    assert get(secrets, key="TOKEN", fallback="no").result == b'{"value":"hunter2hunter2"}'
    version = secrets.version("TOKEN", "hunter2hunter2")
    assert redaction.secret_version("TOKEN", "hunter2hunter2") == version
    assert redaction.secrets.within(b"... hunter2hunter2 ...")


def test_a_version_tells_values_apart_by_the_key_and_gives_nothing_away() -> None:
    one, other = Secrets(Redaction(), {}, master_key=KEY), Secrets(Redaction(), {}, master_key=bytes(32))
    assert one.version("A", "x") == one.version("A", "x")
    assert (
        len({one.version("A", "x"), one.version("A", "y"), one.version("B", "x"), other.version("A", "x")})
        == 4
    )
    assert len(one.version("A", "x")) == 12
    assert Secrets(Redaction(), {}).version("A", "x") == "env"


def test_a_missing_secret_is_its_fallback_which_is_no_secret() -> None:
    redaction = Redaction()
    assert get(Secrets(redaction, {}), key="TOKEN", fallback="").result == b'{"value":""}'
    assert get(Secrets(redaction, {}), key="TOKEN", fallback="harmless text").error is None
    assert redaction.secret_version("TOKEN", "harmless text") is None
    assert not redaction.secrets.within(b"harmless text")


def test_a_missing_secret_without_fallback_says_where_to_put_it() -> None:
    error = get(Secrets(Redaction(), {}), key="TOKEN").error
    assert error is not None
    assert (error.type, error.detail) == ("secret_not_found", {"name": "TOKEN"})
    assert "`TOKEN=...`" in error.message
    assert ".env" in error.message


def test_an_empty_secret_is_found() -> None:
    assert get(Secrets(Redaction(), {"E": ""}), key="E", fallback="f").result == b'{"value":""}'


@pytest.mark.parametrize("name", ["FLUX_MASTER_KEY", "DATABASE_URL", "FLUX_DATABASE_URL", "PGPASSWORD"])
def test_what_belongs_to_flux_is_not_handed_out(name: str) -> None:
    secrets = Secrets(Redaction(), {name: "hunter2hunter2"}, {name: "hunter2hunter2"})
    error = get(secrets, key=name).error
    assert error is not None
    assert error.type == "secret_not_found"
    assert "hunter2" not in error.message
    assert get(secrets, key=name, fallback="x").result == b'{"value":"x"}'


def test_secrets_are_withheld_before_anybody_has_read_one() -> None:
    redaction = Redaction()
    environment = {
        "LISTED": "listed-in-flux-toml",
        "OTHER": "only-in-the-environment",
        "FLUX_MASTER_KEY": "00" * 32,
        "DATABASE_URL": "postgres://me:p%40ssword-1@db/x",
        "OTEL_EXPORTER_OTLP_HEADERS": "x-key=col%6cector-key",
    }
    env_file = {
        "TOKEN": "written-in-dot-env",
        "SHOWN": "shown-by-ctx-env",
        "NODE_ENV": "production",
        "APP_URL": "http://localhost:4000",
        "FLUX_NAME": "name-of-this-project",
    }
    Secrets(redaction, env_file, {**env_file, **environment}, listed=["LISTED"], shown=["SHOWN"])
    for value in ("written-in-dot-env", "listed-in-flux-toml", "00" * 32, "p@ssword-1", "collector-key"):
        assert redaction.secrets.within(value.encode()), value
    for value in (
        "only-in-the-environment",
        "shown-by-ctx-env",
        "production",
        "http://localhost:4000/x",
        "name-of-this-project",
    ):
        assert not redaction.secrets.within(value.encode()), value


def test_dot_env_comes_first_and_of_the_environment_only_what_is_listed() -> None:
    environment = {"PATH": "/usr/bin", "A": "a of the environment", "B": "b of the environment"}
    secrets = Secrets(Redaction(), {"A": "a of .env"}, environment, listed=["A", "B"])
    assert get(secrets, key="A").result == b'{"value":"a of .env"}'
    assert get(secrets, key="B").result == b'{"value":"b of the environment"}'
    error = get(secrets, key="PATH").error
    assert error is not None
    assert error.type == "secret_not_found"
    assert "flux.toml" in error.message
