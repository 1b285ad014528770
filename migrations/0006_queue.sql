-- The queue: one row per job, from its push to its last attempt.
--
-- A job is pushed by flux.push_job (inside a function's transaction, as flux_app) or flux.enqueue (by Flux itself), claimed by
-- a worker with FOR UPDATE SKIP LOCKED under a lease, and acknowledged by the worker that holds its current attempt.
-- Nothing here notifies: NOTIFY takes a lock that serialises commits across the whole server, so the process that pushed sends
-- one `NOTIFY flux_jobs` after the COMMIT, many pushes together; workers poll besides.

CREATE TABLE flux.jobs (
    id              text COLLATE "C" PRIMARY KEY,
    name            text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    payload         bytea NOT NULL,
    payload_json    jsonb,
    sealed          bytea,
    status          text NOT NULL DEFAULT 'queued' CHECK (status IN ('queued', 'running', 'done', 'failed')),
    attempt         integer NOT NULL DEFAULT 0,
    max_attempts    integer NOT NULL DEFAULT 5 CHECK (max_attempts BETWEEN 1 AND 1000),
    run_at          timestamptz NOT NULL,
    created_at      timestamptz NOT NULL,
    started_at      timestamptz,
    finished_at     timestamptz,
    locked_by       text,
    lease_until     timestamptz,
    idempotency_key text CHECK (length(idempotency_key) BETWEEN 1 AND 200),
    pushed_by       text COLLATE "C",
    pushed_seq      integer,
    traceparent     text,
    last_error      jsonb,
    last_request_id text COLLATE "C",
    pushed_from     text DEFAULT nullif(current_setting('application_name'), '')
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000);
CREATE UNIQUE INDEX jobs_idempotency ON flux.jobs (name, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX jobs_queued ON flux.jobs (run_at) WHERE status = 'queued';
CREATE INDEX jobs_running ON flux.jobs (lease_until) WHERE status = 'running';
CREATE INDEX jobs_pushed_by ON flux.jobs (pushed_by) WHERE pushed_by IS NOT NULL;
CREATE INDEX jobs_failed ON flux.jobs (finished_at DESC) WHERE status = 'failed';
COMMENT ON TABLE flux.jobs IS 'Jobs: what functions pushed to the queue.';
COMMENT ON COLUMN flux.jobs.id IS '32 hex digits, random.';
COMMENT ON COLUMN flux.jobs.name IS 'The function that is to run.';
COMMENT ON COLUMN flux.jobs.payload IS 'Exact JSON as it was pushed: the function''s input. What is withheld is redacted in it.';
COMMENT ON COLUMN flux.jobs.payload_json IS 'The payload, for searching; null where jsonb can''t hold it.';
COMMENT ON COLUMN flux.jobs.sealed IS 'AEAD of msgpack {payload} as it was pushed, where something in it is redacted.';
COMMENT ON COLUMN flux.jobs.status IS 'queued, running, done, or failed (out of attempts).';
COMMENT ON COLUMN flux.jobs.attempt IS 'Attempts begun; counted when a worker claims the job, so that one lost with its worker counts too.';
COMMENT ON COLUMN flux.jobs.max_attempts IS 'After so many attempts it fails.';
COMMENT ON COLUMN flux.jobs.run_at IS 'Not before this; moved on after an attempt that failed.';
COMMENT ON COLUMN flux.jobs.created_at IS 'When it was pushed.';
COMMENT ON COLUMN flux.jobs.started_at IS 'When its latest attempt was claimed.';
COMMENT ON COLUMN flux.jobs.finished_at IS 'When it was done, or had failed.';
COMMENT ON COLUMN flux.jobs.locked_by IS 'flux.nodes.id of the worker that holds its attempt.';
COMMENT ON COLUMN flux.jobs.lease_until IS 'Until when that worker holds it, unless it renews.';
COMMENT ON COLUMN flux.jobs.idempotency_key IS 'A second push to the same queue with the same key stores nothing.';
COMMENT ON COLUMN flux.jobs.pushed_by IS 'request_id of the execution that pushed it; null from outside.';
COMMENT ON COLUMN flux.jobs.pushed_seq IS 'flux.host_calls.seq of that push.';
COMMENT ON COLUMN flux.jobs.traceparent IS 'The W3C trace context of the push''s PRODUCER span.';
COMMENT ON COLUMN flux.jobs.last_error IS 'Why its latest failed attempt failed: {type, message}.';
COMMENT ON COLUMN flux.jobs.last_request_id IS 'The execution of the latest attempt that came to an end.';
COMMENT ON COLUMN flux.jobs.pushed_from IS 'application_name of the session that pushed it: `flux <node id>` for a serving process.';

-- Exact JSON bytes as jsonb, or null where jsonb can't hold them (\u0000, lone surrogates) or they are not JSON.
CREATE FUNCTION flux.json_or_null(data bytea) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN convert_from(data, 'UTF8')::jsonb;
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END $$;

-- Store one job. With an idempotency key that this queue has seen: store nothing, answer the first job's id and duplicate = true.
-- Null options mean their defaults. Times are the wall clock's, so that jobs pushed in one transaction keep their order.
CREATE FUNCTION flux.enqueue(
    job_name text, payload bytea, delay_ms bigint, idempotency_key text, max_attempts integer,
    pushed_by text, pushed_seq integer, traceparent text, sealed bytea DEFAULT NULL,
    OUT id text, OUT duplicate boolean
)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    moment timestamptz := clock_timestamp();
BEGIN
    LOOP
        INSERT INTO flux.jobs AS j (id, name, payload, payload_json, max_attempts, run_at, created_at,
                                    idempotency_key, pushed_by, pushed_seq, traceparent, sealed)
        VALUES (replace(gen_random_uuid()::text, '-', ''), enqueue.job_name, enqueue.payload, flux.json_or_null(enqueue.payload),
                coalesce(enqueue.max_attempts, 5), moment + coalesce(enqueue.delay_ms, 0) * interval '1 millisecond', moment,
                enqueue.idempotency_key, enqueue.pushed_by, enqueue.pushed_seq, enqueue.traceparent, enqueue.sealed)
        ON CONFLICT (name, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
        RETURNING j.id, false INTO enqueue.id, enqueue.duplicate;
        EXIT WHEN FOUND;
        SELECT j.id, true INTO enqueue.id, enqueue.duplicate
        FROM flux.jobs j WHERE j.name = enqueue.job_name AND j.idempotency_key = enqueue.idempotency_key;
        EXIT WHEN FOUND;
    END LOOP;
END $$;

-- What a function's own transaction pushes with: `SELECT id, duplicate FROM flux.push_job(name, payload, delay_ms, idempotency_key,
-- max_attempts, pushed_seq, traceparent, sealed, voice)`. The pushing execution is the one that the session was entered for, never an argument. The
-- session's voice, which no SQL of a function can read, keeps functions from calling this themselves: they would choose whose trace the
-- job is in. The job exists exactly if the transaction commits.
CREATE FUNCTION flux.push_job(
    job_name text, payload bytea, delay_ms bigint DEFAULT NULL, idempotency_key text DEFAULT NULL,
    max_attempts integer DEFAULT NULL, pushed_seq integer DEFAULT NULL, traceparent text DEFAULT NULL,
    sealed bytea DEFAULT NULL, voice bigint DEFAULT NULL,
    OUT id text, OUT duplicate boolean
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    pusher text := substring(split_part(nullif(current_setting('flux.ctx', true), ''), '|', 1) from '^[0-9a-f]{32}$');
BEGIN
    IF session_user = 'flux_app' THEN
        pusher := (SELECT e.request_id FROM flux.entered() e);
        IF push_job.voice IS DISTINCT FROM currval('flux.voice') THEN
            RAISE insufficient_privilege USING MESSAGE = 'flux.push_job is Flux''s own: push with queue.push.';
        END IF;
    END IF;
    SELECT e.id, e.duplicate INTO push_job.id, push_job.duplicate
    FROM flux.enqueue($1, $2, $3, $4, $5, pusher, $6, $7, $8) AS e;
END $$;

REVOKE ALL ON FUNCTION flux.enqueue(text, bytea, bigint, text, integer, text, integer, text, bytea) FROM PUBLIC;
REVOKE ALL ON FUNCTION flux.push_job(text, bytea, bigint, text, integer, integer, text, bytea, bigint) FROM PUBLIC;

-- The role may be made later than this migration runs: flux.data.install grants the same again whenever it installs capture.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'flux_app') THEN
        GRANT EXECUTE ON FUNCTION flux.push_job(text, bytea, bigint, text, integer, integer, text, bytea, bigint) TO flux_app;
    END IF;
END $$;
