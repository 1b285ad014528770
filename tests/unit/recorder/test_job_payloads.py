"""A job's payload lies in the database without what is withheld, and reaches its attempts whole."""

from __future__ import annotations

import pytest

from flux.recorder.job_payloads import JobPayloads
from flux.recorder.redaction import Redaction
from flux.recorder.seal import Sealer, SealError

SECRET = "sk-live-51HqX9zQ"


def payloads(key: bytes | None = bytes(32)) -> JobPayloads:
    redaction = Redaction(["password"])
    redaction.add_secret("KEY", "v1", SECRET)
    return JobPayloads(redaction, Sealer(key))


@pytest.mark.parametrize(
    ("payload", "kept"),
    [
        (b'{"k":"%s","n":1.10}' % SECRET.encode(), b'{"k":"[redacted:KEY]","n":1.10}'),
        (b'{"Password":"x"}', b'{"Password":"[redacted]"}'),
    ],
)
def test_a_payload_is_stored_redacted_and_opened_whole(payload: bytes, kept: bytes) -> None:
    made = payloads()
    stored = made.conceal(payload, "a key")
    assert (stored.payload, stored.key) == (kept, "a key")
    assert stored.sealed is not None
    assert SECRET.encode() not in stored.sealed
    assert made.open(stored.payload, stored.sealed) == payload


def test_a_payload_without_secrets_is_stored_as_it_is() -> None:
    stored = payloads().conceal(b'{"a": 1}', None)
    assert stored == (b'{"a": 1}', None, None)
    assert payloads().open(stored.payload, stored.sealed) == b'{"a": 1}'


def test_an_idempotency_key_with_a_secret_is_stored_as_its_hash() -> None:
    one, again = (payloads().conceal(b"1", f"once {SECRET}").key for _ in range(2))
    other = payloads().conceal(b"1", f"twice {SECRET}").key
    assert one == again != other
    assert one is not None
    assert SECRET not in one


def test_another_master_key_is_named() -> None:
    stored = payloads().conceal(b'"%s"' % SECRET.encode(), None)
    with pytest.raises(SealError, match="another master key"):
        payloads(bytes(range(32))).open(stored.payload, stored.sealed)


def test_without_a_master_key_the_payload_stays_runnable() -> None:
    payload = b'"%s"' % SECRET.encode()
    assert payloads(None).conceal(payload, None) == (payload, None, None)
