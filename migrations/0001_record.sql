-- The record: one row per execution, span, host call, mutation and log line.
--
-- Keys begin (request_id, day): a request's rows are found by its id (or a prefix of it) and lie in the partition of its UTC
-- day. Ids are lowercase hex as text in the C collation, so that `request_id LIKE '9f3c2a1b%'` uses the key.
-- What replay needs is kept as exact bytes (bytea); the jsonb beside it is derived, for searching, and null where
-- Postgres can't hold the value.

CREATE TABLE flux.executions (
    request_id        text COLLATE "C" NOT NULL,
    day               date NOT NULL,
    trace_id          text COLLATE "C" NOT NULL,
    span_id           text COLLATE "C" NOT NULL,
    parent_request_id text COLLATE "C",
    trigger           text NOT NULL,
    function          text,
    deployment        text COLLATE "C",
    node              text NOT NULL,
    guest             text,
    invocation        bigint,
    method            text,
    url               text,
    path              text,
    route             text,
    query             text,
    params            jsonb,
    request_headers   jsonb,
    client_request_id text,
    client            text,
    body              bytea,
    body_size         bigint,
    input             bytea,
    input_json        jsonb,
    output            bytea,
    output_kind       text,
    output_size       bigint,
    output_json       jsonb,
    response_headers  jsonb,
    status            integer,
    outcome           text NOT NULL,
    started_at        timestamptz NOT NULL,
    duration_ms       double precision,
    error             jsonb,
    record            text NOT NULL,
    replay_of         text COLLATE "C",
    job_id            text,
    job_attempt       integer,
    warnings          jsonb NOT NULL DEFAULT '[]',
    sealed            bytea[],
    PRIMARY KEY (request_id, day)
) PARTITION BY RANGE (day);
CREATE INDEX executions_started_at ON flux.executions (started_at DESC);
CREATE INDEX executions_trace_id ON flux.executions (trace_id);
CREATE INDEX executions_function ON flux.executions (function, started_at DESC);
CREATE INDEX executions_parent ON flux.executions (parent_request_id) WHERE parent_request_id IS NOT NULL;
CREATE INDEX executions_failed ON flux.executions (started_at DESC) WHERE outcome <> 'ok';
COMMENT ON TABLE flux.executions IS 'One row per execution: an HTTP request, a job attempt, an invocation, a replay.';
COMMENT ON COLUMN flux.executions.body IS 'The bytes that came, exact, whole.';
COMMENT ON COLUMN flux.executions.input IS 'Exact JSON of the handler''s input where it is not the body; null means the body.';
COMMENT ON COLUMN flux.executions.sealed IS 'AEAD under the master key: the seed, and what redaction took out.';

CREATE TABLE flux.host_calls (
    request_id     text COLLATE "C" NOT NULL,
    day            date NOT NULL,
    seq            integer NOT NULL,
    op             text NOT NULL,
    arguments      bytea NOT NULL,
    arguments_size bigint,
    arguments_json jsonb,
    result         bytea,
    result_size    bigint,
    error          jsonb,
    status         text NOT NULL,
    started        bigint NOT NULL,
    delivered      bigint,
    at             timestamptz NOT NULL,
    duration_ms    double precision,
    span_id        text COLLATE "C",
    parent_span_id text COLLATE "C",
    tx             integer,
    xid            xid8,
    snapshot       pg_snapshot,
    first_n        bigint,
    last_n         bigint,
    sealed         bytea,
    PRIMARY KEY (request_id, day, seq)
) PARTITION BY RANGE (day);
COMMENT ON TABLE flux.host_calls IS 'What a function asked of the host, in order of seq; log lines are in flux.logs with numbers from the same series.';
COMMENT ON COLUMN flux.host_calls.started IS 'Node-monotonic number taken when the call began; delivered: when its answer went to the function.';
COMMENT ON COLUMN flux.host_calls.first_n IS 'flux.mutations.n of the first row this call changed; last_n: of the last.';

CREATE TABLE flux.logs (
    request_id text COLLATE "C" NOT NULL,
    day        date NOT NULL,
    seq        integer NOT NULL,
    at         timestamptz NOT NULL,
    level      text NOT NULL,
    message    text NOT NULL,
    fields     bytea,
    fields_json jsonb,
    span_id    text COLLATE "C",
    sealed     bytea,
    PRIMARY KEY (request_id, day, seq)
) PARTITION BY RANGE (day);
CREATE INDEX logs_at ON flux.logs (at DESC);

CREATE TABLE flux.resources (
    id         text COLLATE "C" PRIMARY KEY,
    attributes jsonb NOT NULL
);
COMMENT ON TABLE flux.resources IS 'OpenTelemetry resources, each once: id is the md5 of the canonical JSON.';

CREATE TABLE flux.spans (
    request_id     text COLLATE "C" NOT NULL,
    day            date NOT NULL,
    span_id        text COLLATE "C" NOT NULL,
    trace_id       text COLLATE "C" NOT NULL,
    parent_span_id text COLLATE "C",
    name           text NOT NULL,
    kind           text NOT NULL,
    start_time     timestamptz NOT NULL,
    start_ns       bigint NOT NULL,
    duration_ns    bigint NOT NULL,
    status         text NOT NULL,
    status_message text,
    attributes     jsonb NOT NULL,
    events         jsonb,
    links          jsonb,
    scope          text,
    resource_id    text COLLATE "C",
    PRIMARY KEY (request_id, day, span_id)
) PARTITION BY RANGE (day);
CREATE INDEX spans_trace_id ON flux.spans (trace_id);
COMMENT ON COLUMN flux.spans.start_ns IS 'Exact start, nanoseconds since the epoch; start_time is the same, rounded to microseconds.';

-- No unique key but (request_id, day, n): n comes from one sequence and orders a database's mutations.
CREATE SEQUENCE flux.mutation_order AS bigint CACHE 1;
CREATE TABLE flux.mutations (
    request_id       text COLLATE "C" NOT NULL,
    day              date NOT NULL,
    n                bigint NOT NULL,
    xid              xid8 NOT NULL,
    system_id        bigint NOT NULL,
    schema_name      text NOT NULL,
    table_name       text NOT NULL,
    op               text NOT NULL,
    key              jsonb,
    before           jsonb,
    after            jsonb,
    at               timestamptz NOT NULL,
    origin           text NOT NULL,
    actor            text,
    application_name text,
    rolled_back      boolean NOT NULL DEFAULT false,
    seq              integer,
    cut              bigint,
    PRIMARY KEY (request_id, day, n)
) PARTITION BY RANGE (day);
-- A row's history by the hash of its key: comparing jsonb at every insertion costs more than all else an insertion does.
CREATE INDEX mutations_row ON flux.mutations (jsonb_hash_extended(key, 0), n);
CREATE INDEX mutations_n ON flux.mutations (n);
-- Rows that moved to another primary key: few, and the only ones that join two keys' histories.
CREATE INDEX mutations_moved ON flux.mutations (table_name, n)
    WHERE op = 'UPDATE' AND NOT (before @> key AND after @> key);
COMMENT ON TABLE flux.mutations IS 'Every row changed: before and after images, by the transaction that did it. Rolled-back attempts are here too, marked.';
COMMENT ON COLUMN flux.mutations.origin IS 'flux: a function''s doing. outside: psql, a migration, another program (request_id is then derived).';

CREATE TABLE flux.functions (
    name       text PRIMARY KEY,
    deployment text COLLATE "C" NOT NULL,
    runtime    text NOT NULL,
    route      text NOT NULL,
    method     text NOT NULL,
    config     jsonb NOT NULL,
    updated_at timestamptz NOT NULL
);

CREATE TABLE flux.deployments (
    id         text COLLATE "C" PRIMARY KEY,
    function   text NOT NULL,
    created_at timestamptz NOT NULL,
    runtime    text NOT NULL,
    entry      text NOT NULL,
    config     jsonb NOT NULL,
    manifest   jsonb NOT NULL,
    bundle     bytea NOT NULL,
    engine     jsonb NOT NULL,
    git_commit text,
    git_dirty  boolean
);
CREATE INDEX deployments_function ON flux.deployments (function, created_at DESC);
COMMENT ON COLUMN flux.deployments.bundle IS 'A deterministic tar of the function''s files as they were.';

CREATE TABLE flux.nodes (
    id           text PRIMARY KEY,
    host         text NOT NULL,
    pid          integer NOT NULL,
    version      text NOT NULL,
    started_at   timestamptz NOT NULL,
    heartbeat_at timestamptz NOT NULL,
    stopped_at   timestamptz
);
COMMENT ON TABLE flux.nodes IS 'Serving processes; id is also the id of the process''s spool.';

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
COMMENT ON TABLE flux.quarantine IS 'Records that Postgres refused, raw as they stood in the spool.';

-- Partitions of the five tables for every day from `first` to `last`. Safe from several sessions at once.
CREATE FUNCTION flux.ensure_partitions(first date, last date) RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    parent text;
    d date;
    made integer := 0;
BEGIN
    FOR d IN SELECT generate_series(first::timestamp, last::timestamp, '1 day')::date LOOP
        CONTINUE WHEN to_regclass(format('flux.executions_%s', to_char(d, 'YYYYMMDD'))) IS NOT NULL
                  AND to_regclass(format('flux.mutations_%s', to_char(d, 'YYYYMMDD'))) IS NOT NULL;
        PERFORM pg_advisory_xact_lock(hashtext('flux.ensure_partitions'));
        FOREACH parent IN ARRAY ARRAY['executions', 'host_calls', 'logs', 'spans', 'mutations'] LOOP
            IF to_regclass(format('flux.%I', parent || '_' || to_char(d, 'YYYYMMDD'))) IS NULL THEN
                EXECUTE format('CREATE TABLE flux.%I PARTITION OF flux.%I FOR VALUES FROM (%L) TO (%L)',
                               parent || '_' || to_char(d, 'YYYYMMDD'), parent, d, d + 1);
                made := made + 1;
            END IF;
        END LOOP;
    END LOOP;
    RETURN made;
END $$;

SELECT flux.ensure_partitions((now() AT TIME ZONE 'UTC')::date - 1, (now() AT TIME ZONE 'UTC')::date + 7);
