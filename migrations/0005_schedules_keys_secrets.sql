-- What Flux keeps about a project beside its functions: when they run by themselves, who may call, and what they may know.
--
-- A schedule's tick is a job of its function whose idempotency key is the schedule's name and the tick's time, so that a tick is
-- one job however many nodes see its time come.

CREATE TABLE flux.schedules (
    name       text PRIMARY KEY CHECK (name <> ''),
    function   text NOT NULL,
    cron       text NOT NULL,
    timezone   text NOT NULL DEFAULT 'UTC',
    payload    bytea NOT NULL DEFAULT 'null',
    enabled    boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    ticked_at  timestamptz
);
COMMENT ON TABLE flux.schedules IS 'Functions that run by the clock. A row of flux.jobs a tick.';
COMMENT ON COLUMN flux.schedules.cron IS 'Five fields: minute, hour, day of month, month, day of week; in `timezone`.';
COMMENT ON COLUMN flux.schedules.payload IS 'The function''s input: JSON, as exact bytes.';
COMMENT ON COLUMN flux.schedules.ticked_at IS 'The time of the last tick that was made into a job, not the time it ran.';

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
COMMENT ON COLUMN flux.api_keys.hash IS 'HMAC-SHA256 of the key under a key derived from the master key.';
COMMENT ON COLUMN flux.api_keys.used_at IS 'When it was last seen, to the minute.';

CREATE TABLE flux.secrets (
    name       text NOT NULL CHECK (name <> ''),
    version    integer NOT NULL CHECK (version > 0),
    sealed     bytea,
    created_at timestamptz NOT NULL DEFAULT now(),
    retired_at timestamptz,
    PRIMARY KEY (name, version),
    CHECK (sealed IS NOT NULL OR retired_at IS NOT NULL)
);
COMMENT ON TABLE flux.secrets IS 'Versions of secrets; the newest one that is not retired counts. Records name a secret and its version, never its value.';
COMMENT ON COLUMN flux.secrets.sealed IS 'AES-256-GCM under the master key, name and version authenticated with it. Null once the value was destroyed.';
