-- When functions run by themselves.
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
COMMENT ON COLUMN flux.schedules.name IS 'The schedule''s name.';
COMMENT ON COLUMN flux.schedules.function IS 'The function that it runs.';
COMMENT ON COLUMN flux.schedules.cron IS 'Five fields: minute, hour, day of month, month, day of week; in `timezone`.';
COMMENT ON COLUMN flux.schedules.timezone IS 'An IANA name.';
COMMENT ON COLUMN flux.schedules.payload IS 'The function''s input: JSON, as exact bytes.';
COMMENT ON COLUMN flux.schedules.enabled IS 'Whether it ticks.';
COMMENT ON COLUMN flux.schedules.created_at IS 'When it was made.';
COMMENT ON COLUMN flux.schedules.updated_at IS 'When it was last changed.';
COMMENT ON COLUMN flux.schedules.ticked_at IS 'The time of the last tick that was made into a job, not the time it ran.';
