-- The processes that serve, and how far what they wrote has come.

CREATE TABLE flux.nodes (
    id              text PRIMARY KEY,
    host            text NOT NULL,
    pid             integer NOT NULL,
    version         text NOT NULL,
    started_at      timestamptz NOT NULL,
    heartbeat_at    timestamptz NOT NULL,
    stopped_at      timestamptz,
    clock_offset_ms double precision
);
COMMENT ON TABLE flux.nodes IS 'Serving processes.';
COMMENT ON COLUMN flux.nodes.id IS 'The process''s id, which is also the id of its spool.';
COMMENT ON COLUMN flux.nodes.host IS 'The name of its machine.';
COMMENT ON COLUMN flux.nodes.pid IS 'Its process id there.';
COMMENT ON COLUMN flux.nodes.version IS 'Its version of Flux.';
COMMENT ON COLUMN flux.nodes.started_at IS 'When it started.';
COMMENT ON COLUMN flux.nodes.heartbeat_at IS 'By this server''s clock. A node whose heartbeat is older than 10 s is silent.';
COMMENT ON COLUMN flux.nodes.stopped_at IS 'When its process was known to have ended, in good order or not.';
COMMENT ON COLUMN flux.nodes.clock_offset_ms IS
    'Its clock minus the database''s at its latest heartbeats: executions bear their node''s time, mutations the database''s.';

CREATE TABLE flux.spool_positions (
    spool_id   text NOT NULL,
    consumer   text NOT NULL DEFAULT 'postgres',
    segment    bigint NOT NULL,
    "offset"   bigint NOT NULL,
    finished   boolean NOT NULL DEFAULT false,
    records    bigint NOT NULL DEFAULT 0,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (spool_id, consumer)
);
COMMENT ON TABLE flux.spool_positions IS 'How far each spool has been drained; advanced in the transaction that stores what was read.';
COMMENT ON COLUMN flux.spool_positions.spool_id IS 'flux.nodes.id of the process that wrote it.';
COMMENT ON COLUMN flux.spool_positions.consumer IS 'Who reads: postgres.';
COMMENT ON COLUMN flux.spool_positions.segment IS 'The file that it goes on from.';
COMMENT ON COLUMN flux.spool_positions."offset" IS 'The byte in that file.';
COMMENT ON COLUMN flux.spool_positions.finished IS 'It was drained to its end, and its writer is gone.';
COMMENT ON COLUMN flux.spool_positions.records IS 'Records read so far.';
COMMENT ON COLUMN flux.spool_positions.updated_at IS 'When it last moved.';

CREATE TABLE flux.quarantine (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    request_id text,
    spool_id   text NOT NULL,
    segment    bigint NOT NULL,
    "offset"   bigint NOT NULL,
    at         timestamptz NOT NULL DEFAULT now(),
    reason     text NOT NULL,
    record     bytea NOT NULL
);
COMMENT ON TABLE flux.quarantine IS 'Records that Postgres refused or that could not be read, raw as they stood in the spool.';
COMMENT ON COLUMN flux.quarantine.id IS 'In the order in which they came here.';
COMMENT ON COLUMN flux.quarantine.request_id IS 'The execution that the record is of, where it says.';
COMMENT ON COLUMN flux.quarantine.spool_id IS 'The spool that it stood in.';
COMMENT ON COLUMN flux.quarantine.segment IS 'The file of that spool.';
COMMENT ON COLUMN flux.quarantine."offset" IS 'The byte in that file.';
COMMENT ON COLUMN flux.quarantine.at IS 'When it came here.';
COMMENT ON COLUMN flux.quarantine.reason IS 'Why: Postgres'' error, or what is damaged.';
COMMENT ON COLUMN flux.quarantine.record IS 'Its bytes.';
