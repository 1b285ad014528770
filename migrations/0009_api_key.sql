-- Who may call.

CREATE TABLE flux.api_keys (
    id         text COLLATE "C" PRIMARY KEY CHECK (id ~ '^[0-9a-f]{16}$'),
    name       text NOT NULL CHECK (name <> ''),
    hash       bytea NOT NULL UNIQUE CHECK (octet_length(hash) = 32),
    scopes     text[] NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz CHECK (expires_at > created_at),
    revoked_at timestamptz,
    used_at    timestamptz
);
COMMENT ON TABLE flux.api_keys IS 'Who may call. The keys themselves are nowhere: only their hashes.';
COMMENT ON COLUMN flux.api_keys.id IS 'What a key is called by in lists, logs and records. Not secret.';
COMMENT ON COLUMN flux.api_keys.name IS 'What its maker calls it.';
COMMENT ON COLUMN flux.api_keys.hash IS 'HMAC-SHA256 of the key under a key derived from the master key.';
COMMENT ON COLUMN flux.api_keys.scopes IS 'What it may do: invoke, read, admin.';
COMMENT ON COLUMN flux.api_keys.created_at IS 'When it was made.';
COMMENT ON COLUMN flux.api_keys.expires_at IS 'From when on it is refused; null: never.';
COMMENT ON COLUMN flux.api_keys.revoked_at IS 'Since when it is refused; null: it is not.';
COMMENT ON COLUMN flux.api_keys.used_at IS 'When it was last seen, to the minute.';
