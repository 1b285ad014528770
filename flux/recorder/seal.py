"""Sealing: what redaction takes out, and seeds, kept readable for replay and restore alone.

AES-256-GCM under a key that HKDF derives from the project's master key. A sealed blob is
`version (1) | key id (4) | salt (16) | counter (8) | ciphertext and tag`; everything before the ciphertext
is authenticated. Every process seals under a subkey of its own (random salt) with a counter as nonce, so
that no number of seals repeats one.
"""

from __future__ import annotations

import hmac
import os
import struct
import weakref
from collections.abc import Mapping
from typing import Any

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from flux.errors import FluxError

_VERSION = 1
_HEAD = struct.Struct(">B4s16sQ")
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(dict[str, Any]).decode


class SealError(FluxError):
    """A sealed value can't be opened: another master key, or damaged bytes."""


class Sealer:
    """Seals and opens small dictionaries. Fork-safe; one per process is enough.

    Args:
        master_key: 32 bytes, or None: then nothing can be sealed, and what is redacted is gone.
    """

    def __init__(self, master_key: bytes | None) -> None:
        self._master = master_key
        self._name_key = b"" if master_key is None else _derive(master_key, b"", b"flux names", 32)
        self._subkeys: dict[bytes, AESGCM] = {}
        self.key_id = b"" if master_key is None else _derive(master_key, b"", b"flux seal key id", 4)
        self._salt_anew()
        here = weakref.WeakMethod(self._salt_anew)
        os.register_at_fork(after_in_child=lambda: (again := here()) is not None and again())

    def _salt_anew(self) -> None:
        self._counter = 0
        self._salt = os.urandom(16)
        self._aead = None if self._master is None else self._subkey(self._salt)

    @property
    def able(self) -> bool:
        """Whether there is a key to seal with."""
        return self._aead is not None

    def seal(self, values: Mapping[str, Any]) -> bytes | None:
        """The values as one sealed blob; None without a master key. Values: whatever msgpack carries."""
        if self._aead is None:
            return None
        self._counter += 1
        head = _HEAD.pack(_VERSION, self.key_id, self._salt, self._counter)
        return head + self._aead.encrypt(_nonce(self._counter), _encode(values), head)

    def open(self, blob: bytes) -> dict[str, Any]:
        """What `seal` was given.

        Raises:
            SealError: there is no master key, it is another than the blob was sealed under, or the blob is
                damaged.
        """
        if self._master is None:
            raise SealError("A sealed value can't be opened without a master key.", "Set FLUX_MASTER_KEY.")
        if len(blob) < _HEAD.size or blob[0] != _VERSION:
            raise SealError("A sealed value is damaged, or of a later version of Flux.")
        _, key_id, salt, counter = _HEAD.unpack_from(blob)
        if key_id != self.key_id:
            raise SealError(
                f"A value was sealed under another master key (id {key_id.hex()}; this one is "
                f"{self.key_id.hex()}).",
                "Set FLUX_MASTER_KEY to the key of that time.",
            )
        try:
            return _decode(
                self._subkey(salt).decrypt(_nonce(counter), blob[_HEAD.size :], blob[: _HEAD.size])
            )
        except (InvalidTag, msgspec.DecodeError) as error:
            raise SealError("A sealed value is damaged.") from error

    def name(self, content: bytes) -> str:
        """32 hex digits that stand for `content` under this key: the same for the same, and of no help in
        guessing it."""
        return hmac.digest(self._name_key, content, "sha256").hex()[:32]

    def _subkey(self, salt: bytes) -> AESGCM:
        found = self._subkeys.get(salt)
        if found is None:
            if self._master is None:
                raise SealError("There is no master key.")
            if len(self._subkeys) >= 1024:
                self._subkeys.clear()
            found = self._subkeys[salt] = AESGCM(_derive(self._master, salt, b"flux seal", 32))
        return found


def _nonce(counter: int) -> bytes:
    return counter.to_bytes(12, "big")


def _derive(master: bytes, salt: bytes, purpose: bytes, length: int) -> bytes:
    return HKDF(algorithm=SHA256(), length=length, salt=salt or None, info=purpose).derive(master)
