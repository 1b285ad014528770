"""The master key: from FLUX_MASTER_KEY, or one made for this project under `.flux/` where that is right."""

from __future__ import annotations

import os
from dataclasses import replace

from flux.config import Config
from flux.errors import ConfigError

KEY_FILE = "master.key"


def with_master_key(config: Config) -> Config:
    """`config` with a master key.

    `flux dev`, and any server on the embedded Postgres, make one (mode 0600) on first use: the
    records it seals lie on the same disk. A server on an outside Postgres must be given its key,
    because other nodes need the same one.

    Raises:
        ConfigError: no key is set and none may be made, or the key file is damaged.
    """
    if config.master_key is not None:
        return config
    path = config.flux_dir / KEY_FILE
    if not config.dev and config.database_url is not None and not path.is_file():
        raise ConfigError(
            "FLUX_MASTER_KEY is not set; on an outside Postgres all nodes need the same key.",
            "Make one with `openssl rand -hex 32` and set FLUX_MASTER_KEY to it on every node.",
        )
    config.flux_dir.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        try:
            key = bytes.fromhex(path.read_text().strip())
        except ValueError as error:
            raise ConfigError(
                f"{path} does not hold a key.", "Restore it, or delete it to begin with a new one."
            ) from error
        if len(key) != 32:
            raise ConfigError(
                f"{path} does not hold 32 bytes.", "Restore it, or delete it to begin with a new one."
            ) from None
        return replace(config, master_key=key)
    key = os.urandom(32)
    with os.fdopen(descriptor, "w") as file:
        file.write(key.hex() + "\n")
        file.flush()
        os.fsync(file.fileno())
    return replace(config, master_key=key)
