-- What functions may know and the record may not.

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
COMMENT ON COLUMN flux.secrets.name IS 'What functions ask for.';
COMMENT ON COLUMN flux.secrets.version IS 'From 1.';
COMMENT ON COLUMN flux.secrets.sealed IS 'AES-256-GCM under the master key, name and version authenticated with it. Null once the value was destroyed.';
COMMENT ON COLUMN flux.secrets.created_at IS 'When it was set.';
COMMENT ON COLUMN flux.secrets.retired_at IS 'When it was taken back; null: it counts.';
