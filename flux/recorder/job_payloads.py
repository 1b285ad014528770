"""What is stored of a job: its payload with what is withheld taken out, and the original sealed beside it
until an attempt needs it. Used by whoever pushes (flux.host, flux.data) and by whoever runs jobs.

A row of flux.jobs lies in Postgres' files and in its log of changes long after the job was done.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import NamedTuple

from flux.recorder.redaction import Redaction
from flux.recorder.scrub import removed_json
from flux.recorder.seal import Sealer


class Stored(NamedTuple):
    """What of a push goes into flux.jobs.

    Attributes:
        payload: JSON that may be read. sealed: the exact payload, sealed, where that is another.
        key: the idempotency key, or its hash where it holds a secret.
    """

    payload: bytes
    sealed: bytes | None
    key: str | None


Conceal = Callable[[bytes, str | None], Stored]
"""From a payload and an idempotency key to what is stored of them."""


def in_the_open(payload: bytes, key: str | None) -> Stored:
    """All of it as it is: where nothing is withheld."""
    return Stored(payload, None, key)


class JobPayloads:
    """Conceals and opens the payloads of jobs. One per process.

    Args:
        redaction: says what is withheld.
        sealer: without a master key it seals nothing, and payloads are stored as they are.
    """

    def __init__(self, redaction: Redaction, sealer: Sealer) -> None:
        self._redaction = redaction
        self._sealer = sealer

    def conceal(self, payload: bytes, key: str | None) -> Stored:
        """See Conceal."""
        secrets = self._redaction.secrets
        if key is not None and secrets.remove_text(key) != key:
            key = f"sha256:{hashlib.sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()}"
        kept = removed_json(self._redaction.json_bytes(payload)[0], secrets)
        sealed = None if kept == payload else self._sealer.seal({"payload": payload})
        return Stored(payload, None, key) if sealed is None else Stored(kept, sealed, key)

    def open(self, payload: bytes, sealed: bytes | None) -> bytes:
        """The payload as it was pushed.

        Raises:
            SealError: it was sealed under another master key, or is damaged.
        """
        return payload if sealed is None else bytes(self._sealer.open(sealed)["payload"])
