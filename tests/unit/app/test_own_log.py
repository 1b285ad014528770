"""What the server logs holds no secret."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest

from flux.app.own_log import Withholding
from flux.recorder.secret_forms import SecretForms

SECRET = "sk-live-51HqX9zQ"


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logging.getLogger().addHandler(handler)
    yield stream
    logging.getLogger().removeHandler(handler)


def test_messages_their_values_and_tracebacks_lose_secrets(written: io.StringIO) -> None:
    secrets = SecretForms()
    secrets.add("KEY", SECRET)
    withholding = Withholding(secrets)
    withholding.attach()
    log = logging.getLogger("flux.test")
    try:
        log.warning("a line: %s", f"https://host?k={SECRET}")
        try:
            raise ValueError(SECRET)
        except ValueError:
            log.exception("it failed")
    finally:
        withholding.detach()
    said = written.getvalue()
    assert "a line: https://host?k=[redacted:KEY]" in said
    assert "ValueError: [redacted:KEY]" in said
    assert SECRET not in said
    log.warning(SECRET)
    assert SECRET in written.getvalue()
