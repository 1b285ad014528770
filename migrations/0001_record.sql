-- The record: one row per execution, span, host call, mutation and log line, and what says when these were committed.
--
-- Keys begin (request_id, day): a request's rows are found by its id (or a prefix of it) and lie in the partition of its UTC
-- day. Ids are lowercase hex as text in the C collation, so that `request_id LIKE '9f3c2a1b%'` uses the key.
-- What replay needs is kept as exact bytes (bytea). The jsonb beside it is derived, for searching, and null where
-- Postgres can't hold the value.
--
-- Every table and column has a COMMENT. docs/schema.md is made from them.

COMMENT ON SCHEMA flux IS 'What Flux keeps: the record, the queue, deployments, keys and secrets. Functions can''t reach it.';
COMMENT ON TABLE flux.migrations IS 'The files of migrations/ that this database has.';
COMMENT ON COLUMN flux.migrations.name IS 'The file''s name without its suffix.';
COMMENT ON COLUMN flux.migrations.sha256 IS 'Of the file''s bytes, in hex. A file that has changed since is refused.';
COMMENT ON COLUMN flux.migrations.applied_at IS 'When it was applied.';

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
    answered_ms       double precision,
    duration_ms       double precision,
    error             jsonb,
    record            text NOT NULL,
    replay_of         text COLLATE "C",
    job_id            text,
    job_attempt       integer,
    warnings          jsonb NOT NULL DEFAULT '[]',
    sealed            bytea[],
    count             bigint NOT NULL DEFAULT 1,
    sent              bigint,
    surroundings      text COLLATE "C",
    output_sha256     bytea,
    params_exact      bytea,
    error_exact       bytea,
    PRIMARY KEY (request_id, day)
) PARTITION BY RANGE (day);
CREATE INDEX executions_started_at ON flux.executions (started_at DESC);
CREATE INDEX executions_trace_id ON flux.executions (trace_id);
CREATE INDEX executions_function ON flux.executions (function, started_at DESC);
CREATE INDEX executions_parent ON flux.executions (parent_request_id) WHERE parent_request_id IS NOT NULL;
CREATE INDEX executions_failed ON flux.executions (started_at DESC) WHERE outcome <> 'ok';
COMMENT ON TABLE flux.executions IS 'One row per execution: an HTTP request, a job attempt, a cron tick, an invocation, a replay.';
COMMENT ON COLUMN flux.executions.request_id IS 'The execution''s id: 32 hex digits, random. Answered as x-request-id.';
COMMENT ON COLUMN flux.executions.day IS 'The UTC day of its arrival, by which its rows are partitioned.';
COMMENT ON COLUMN flux.executions.trace_id IS 'The OpenTelemetry trace it is part of. Several executions may share one.';
COMMENT ON COLUMN flux.executions.span_id IS 'Its root span in flux.spans.';
COMMENT ON COLUMN flux.executions.parent_request_id IS 'The execution that invoked it or pushed its job; null where nobody did.';
COMMENT ON COLUMN flux.executions.trigger IS 'What began it: http, job, cron, invoke or replay.';
COMMENT ON COLUMN flux.executions.function IS 'The function''s name; null where no route matched.';
COMMENT ON COLUMN flux.executions.deployment IS 'flux.deployments.id of the code that ran.';
COMMENT ON COLUMN flux.executions.node IS 'flux.nodes.id of the process that served it.';
COMMENT ON COLUMN flux.executions.guest IS 'The guest process that ran it: `<engine>-<random>-<start in µs, hex>`.';
COMMENT ON COLUMN flux.executions.invocation IS 'Its number among that guest''s invocations, from 1.';
COMMENT ON COLUMN flux.executions.method IS 'The HTTP method.';
COMMENT ON COLUMN flux.executions.url IS 'The whole URL as it was asked for.';
COMMENT ON COLUMN flux.executions.path IS 'The URL''s path, still percent-encoded.';
COMMENT ON COLUMN flux.executions.route IS 'The route that matched: `/users/{id}`.';
COMMENT ON COLUMN flux.executions.query IS 'The URL''s query without its question mark.';
COMMENT ON COLUMN flux.executions.params IS 'The route''s parameters: {name: value}.';
COMMENT ON COLUMN flux.executions.request_headers IS '[[name, value], ...] in the order in which they came.';
COMMENT ON COLUMN flux.executions.client_request_id IS 'The x-request-id that the client sent. Never trusted.';
COMMENT ON COLUMN flux.executions.client IS 'The client''s address.';
COMMENT ON COLUMN flux.executions.body IS 'The bytes that came, exact, whole.';
COMMENT ON COLUMN flux.executions.body_size IS 'How many bytes came.';
COMMENT ON COLUMN flux.executions.input IS 'Exact JSON of the handler''s input where it is not the body; null means the body.';
COMMENT ON COLUMN flux.executions.input_json IS 'The input, for searching.';
COMMENT ON COLUMN flux.executions.output IS 'What the handler returned, exact: a JSON value''s bytes, or a Response''s body.';
COMMENT ON COLUMN flux.executions.output_kind IS 'json or response.';
COMMENT ON COLUMN flux.executions.output_size IS 'The output''s full length in bytes, also where it was cut.';
COMMENT ON COLUMN flux.executions.output_json IS 'The output, for searching.';
COMMENT ON COLUMN flux.executions.response_headers IS '[[name, value], ...] as they were sent.';
COMMENT ON COLUMN flux.executions.status IS 'The HTTP status that was answered; null where nothing was.';
COMMENT ON COLUMN flux.executions.outcome IS 'ok, error, rejected (the gateway refused it) or interrupted (its process ended).';
COMMENT ON COLUMN flux.executions.started_at IS 'When it arrived, by its node''s clock.';
COMMENT ON COLUMN flux.executions.answered_ms IS 'From its arrival to its answer, where it went on after that (ctx.waitUntil); else null.';
COMMENT ON COLUMN flux.executions.duration_ms IS 'From its arrival to its end, by the monotonic clock; null where it was interrupted.';
COMMENT ON COLUMN flux.executions.error IS '{type, message, file, line, column, stack, fields}; null where it did not fail.';
COMMENT ON COLUMN flux.executions.record IS 'What was to be kept of it: all, errors or none.';
COMMENT ON COLUMN flux.executions.replay_of IS 'The execution that this one replays.';
COMMENT ON COLUMN flux.executions.job_id IS 'flux.jobs.id of the job that it is an attempt of.';
COMMENT ON COLUMN flux.executions.job_attempt IS 'The number of that attempt, from 1.';
COMMENT ON COLUMN flux.executions.warnings IS 'What else should be known of it: a list of sentences.';
COMMENT ON COLUMN flux.executions.sealed IS 'AEAD under the master key: the seed, and what redaction took out.';
COMMENT ON COLUMN flux.executions.count IS 'How many requests this row stands for: 1, or more where rejections of one second were recorded together. Count with sum(count).';
COMMENT ON COLUMN flux.executions.sent IS 'When it was sent to its guest: a number of the counter that flux.host_calls.started has.';
COMMENT ON COLUMN flux.executions.surroundings IS 'flux.surroundings.id of what its guest was started with besides code.';
COMMENT ON COLUMN flux.executions.output_sha256 IS 'Of the whole output as it was, where it was cut.';
COMMENT ON COLUMN flux.executions.params_exact IS 'Exact JSON of params: their order, and U+0000 in them.';
COMMENT ON COLUMN flux.executions.error_exact IS 'Exact JSON of error.';

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
    now_ns         bigint,
    arguments_sha256 bytea,
    result_sha256  bytea,
    error_exact    bytea,
    PRIMARY KEY (request_id, day, seq)
) PARTITION BY RANGE (day);
COMMENT ON TABLE flux.host_calls IS 'What a function asked of the host, in order of seq. Log lines are in flux.logs, numbered in the same series.';
COMMENT ON COLUMN flux.host_calls.request_id IS 'The execution that called.';
COMMENT ON COLUMN flux.host_calls.day IS 'The execution''s day.';
COMMENT ON COLUMN flux.host_calls.seq IS 'The call''s number in its execution.';
COMMENT ON COLUMN flux.host_calls.op IS 'db.query, db.sql, db.begin, db.commit, db.rollback, fetch, queue.push, invoke, secrets.get or sleep.';
COMMENT ON COLUMN flux.host_calls.arguments IS 'Exact JSON of what was asked.';
COMMENT ON COLUMN flux.host_calls.arguments_size IS 'The arguments'' full length in bytes where they were cut, else null.';
COMMENT ON COLUMN flux.host_calls.arguments_json IS 'The arguments, for searching.';
COMMENT ON COLUMN flux.host_calls.result IS 'Exact JSON of the answer; null where there is an error, or none came.';
COMMENT ON COLUMN flux.host_calls.result_size IS 'The result''s full length in bytes where it was cut, else null.';
COMMENT ON COLUMN flux.host_calls.error IS '{type, message, detail} of a call that failed.';
COMMENT ON COLUMN flux.host_calls.status IS 'done, unknown (sent, and no answer is known) or abandoned (the function ended first).';
COMMENT ON COLUMN flux.host_calls.started IS 'When it began: a number of a counter that all calls of a node share.';
COMMENT ON COLUMN flux.host_calls.delivered IS 'When its answer went to the function: a number of the same counter.';
COMMENT ON COLUMN flux.host_calls.at IS 'When it began, by its node''s clock.';
COMMENT ON COLUMN flux.host_calls.duration_ms IS 'How long the host took, by the monotonic clock.';
COMMENT ON COLUMN flux.host_calls.span_id IS 'The call''s own span in flux.spans; null where it has none.';
COMMENT ON COLUMN flux.host_calls.parent_span_id IS 'The span that it was made in.';
COMMENT ON COLUMN flux.host_calls.tx IS 'seq of the db.begin whose transaction it ran in.';
COMMENT ON COLUMN flux.host_calls.xid IS 'The transaction that it wrote in; null where it wrote nothing.';
COMMENT ON COLUMN flux.host_calls.snapshot IS 'What it could see: the transactions that were committed then.';
COMMENT ON COLUMN flux.host_calls.first_n IS 'flux.mutations.n of the first row that it changed.';
COMMENT ON COLUMN flux.host_calls.last_n IS 'flux.mutations.n of the last row that it changed.';
COMMENT ON COLUMN flux.host_calls.sealed IS 'AEAD under the master key: what redaction took out.';
COMMENT ON COLUMN flux.host_calls.now_ns IS 'The clock that the answer carried, nanoseconds since the epoch: the function''s own moved to it.';
COMMENT ON COLUMN flux.host_calls.arguments_sha256 IS 'Of the whole arguments as they were, where they were cut.';
COMMENT ON COLUMN flux.host_calls.result_sha256 IS 'Of the whole result as it was, where it was cut.';
COMMENT ON COLUMN flux.host_calls.error_exact IS 'Exact JSON of error: detail''s order too.';

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
COMMENT ON TABLE flux.logs IS 'What functions logged, print and console included.';
COMMENT ON COLUMN flux.logs.request_id IS 'The execution that logged it.';
COMMENT ON COLUMN flux.logs.day IS 'The execution''s day.';
COMMENT ON COLUMN flux.logs.seq IS 'The line''s number among the execution''s host calls.';
COMMENT ON COLUMN flux.logs.at IS 'When it was logged.';
COMMENT ON COLUMN flux.logs.level IS 'debug, info, warn or error.';
COMMENT ON COLUMN flux.logs.message IS 'The text.';
COMMENT ON COLUMN flux.logs.fields IS 'Exact JSON of the fields that came with it.';
COMMENT ON COLUMN flux.logs.fields_json IS 'The fields, for searching.';
COMMENT ON COLUMN flux.logs.span_id IS 'The span that it was logged in.';
COMMENT ON COLUMN flux.logs.sealed IS 'AEAD under the master key: what redaction took out.';

CREATE TABLE flux.surroundings (
    id        text COLLATE "C" PRIMARY KEY,
    bounds    jsonb NOT NULL,
    env_names jsonb NOT NULL,
    sealed    bytea
);
COMMENT ON TABLE flux.surroundings IS 'What guest processes were started with besides code, each once.';
COMMENT ON COLUMN flux.surroundings.id IS 'A digest of the rest, under the master key.';
COMMENT ON COLUMN flux.surroundings.bounds IS '{memory_mb, concurrency, dev}.';
COMMENT ON COLUMN flux.surroundings.env_names IS 'The names that ctx.env had.';
COMMENT ON COLUMN flux.surroundings.sealed IS 'AEAD under the master key: ctx.env''s values.';

CREATE TABLE flux.resources (
    id         text COLLATE "C" PRIMARY KEY,
    attributes jsonb NOT NULL
);
COMMENT ON TABLE flux.resources IS 'OpenTelemetry resources, each once.';
COMMENT ON COLUMN flux.resources.id IS 'The md5 of the canonical JSON of its attributes.';
COMMENT ON COLUMN flux.resources.attributes IS '{name: value}.';

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
COMMENT ON TABLE flux.spans IS 'OpenTelemetry spans: the executions'' own, and those that other programs sent.';
COMMENT ON COLUMN flux.spans.request_id IS 'The execution that it belongs to; the trace''s id where it belongs to none.';
COMMENT ON COLUMN flux.spans.day IS 'The execution''s day; the day of its start where it belongs to none.';
COMMENT ON COLUMN flux.spans.span_id IS '16 hex digits.';
COMMENT ON COLUMN flux.spans.trace_id IS '32 hex digits. Not indexed: a trace''s executions are found in flux.executions.';
COMMENT ON COLUMN flux.spans.parent_span_id IS 'The span that it is a part of; null for a root.';
COMMENT ON COLUMN flux.spans.name IS 'The span''s name.';
COMMENT ON COLUMN flux.spans.kind IS 'INTERNAL, SERVER, CLIENT, PRODUCER or CONSUMER.';
COMMENT ON COLUMN flux.spans.start_time IS 'start_ns rounded to microseconds.';
COMMENT ON COLUMN flux.spans.start_ns IS 'Exact start, nanoseconds since the epoch.';
COMMENT ON COLUMN flux.spans.duration_ns IS 'Nanoseconds.';
COMMENT ON COLUMN flux.spans.status IS 'UNSET, OK or ERROR.';
COMMENT ON COLUMN flux.spans.status_message IS 'What an ERROR says.';
COMMENT ON COLUMN flux.spans.attributes IS '{name: value}, named as OpenTelemetry''s conventions say.';
COMMENT ON COLUMN flux.spans.events IS '[{name, time_ns, attributes}, ...].';
COMMENT ON COLUMN flux.spans.links IS '[{trace_id, span_id, attributes, trace_state}, ...].';
COMMENT ON COLUMN flux.spans.scope IS 'The instrumentation that made it.';
COMMENT ON COLUMN flux.spans.resource_id IS 'flux.resources.id of what it comes from.';

-- No unique key but (request_id, day, n): n comes from one sequence and orders a database's mutations. It grows by 32, which
-- leaves room below a number for what comes to be known later (migrations/0004_capture.sql).
CREATE SEQUENCE flux.mutation_order AS bigint INCREMENT BY 32 CACHE 1;
COMMENT ON SEQUENCE flux.mutation_order IS 'Numbers mutations, epochs, schema changes and ticks in one order.';
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
    row_hash         bigint,
    moved            boolean,
    PRIMARY KEY (request_id, day, n)
) PARTITION BY RANGE (day);
-- Indexes on plain columns. Postgres copies and plans an index's expression or predicate anew in each statement that inserts, which costs more
-- than all else an insertion does.
CREATE INDEX mutations_row ON flux.mutations (row_hash, n);
CREATE INDEX mutations_n ON flux.mutations (n);
-- Rows that moved to another primary key: few, and the only ones that join two keys' histories.
CREATE INDEX mutations_moved ON flux.mutations (table_name, n) WHERE moved;
COMMENT ON TABLE flux.mutations IS 'Every row changed, with its images before and after, by the transaction that did it. Rolled-back attempts are here too, marked.';
COMMENT ON COLUMN flux.mutations.request_id IS 'The execution that changed it; one id per transaction where it came from outside.';
COMMENT ON COLUMN flux.mutations.day IS 'The execution''s day.';
COMMENT ON COLUMN flux.mutations.n IS 'Its place in the order of all mutations of the database.';
COMMENT ON COLUMN flux.mutations.xid IS 'The transaction.';
COMMENT ON COLUMN flux.mutations.system_id IS 'Postgres'' system identifier: an xid means something in its own cluster only.';
COMMENT ON COLUMN flux.mutations.schema_name IS 'The table''s schema; a partition''s root''s.';
COMMENT ON COLUMN flux.mutations.table_name IS 'The table; a partition''s root.';
COMMENT ON COLUMN flux.mutations.op IS 'INSERT, UPDATE, DELETE or TRUNCATE (one mutation for each row that went).';
COMMENT ON COLUMN flux.mutations.key IS 'The row''s primary key before the change (of an INSERT: after it); null where the table has none.';
COMMENT ON COLUMN flux.mutations.before IS 'The whole row before; null of an INSERT.';
COMMENT ON COLUMN flux.mutations.after IS 'The whole row after; null of a DELETE and a TRUNCATE.';
COMMENT ON COLUMN flux.mutations.at IS 'When it was captured, by Postgres'' clock.';
COMMENT ON COLUMN flux.mutations.origin IS 'flux: a function''s doing. outside: psql, a migration, another program (request_id is then derived).';
COMMENT ON COLUMN flux.mutations.actor IS 'The database role.';
COMMENT ON COLUMN flux.mutations.application_name IS 'The session''s application_name: `flux <node id>` for a serving process.';
COMMENT ON COLUMN flux.mutations.rolled_back IS 'The change was attempted and its transaction, or a part of it, was rolled back.';
COMMENT ON COLUMN flux.mutations.seq IS 'Of a rolled-back attempt: the host call that made it.';
COMMENT ON COLUMN flux.mutations.cut IS 'Of a rolled-back attempt: how many further rows of its statement were not kept.';
COMMENT ON COLUMN flux.mutations.row_hash IS 'Finds a row''s history: jsonb_hash_extended(coalesce(key, before), 0).';
COMMENT ON COLUMN flux.mutations.moved IS 'True where an UPDATE changed the primary key, or may have: the key is kept as its md5. Else null.';

CREATE TABLE flux.ticks (
    at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    node     text NOT NULL,
    snapshot pg_snapshot NOT NULL DEFAULT pg_current_snapshot(),
    n        bigint NOT NULL
);
CREATE INDEX ticks_at ON flux.ticks (at);
COMMENT ON TABLE flux.ticks IS 'What was committed when: one row per node and 100 ms of traffic.';
COMMENT ON COLUMN flux.ticks.at IS 'When, by Postgres'' clock.';
COMMENT ON COLUMN flux.ticks.node IS 'flux.nodes.id of who looked.';
COMMENT ON COLUMN flux.ticks.snapshot IS 'The transactions that were committed then.';
COMMENT ON COLUMN flux.ticks.n IS 'Where the mutations'' numbers stood.';

-- Partitions of the record's tables for every day from `first` to `last`, made beside the parents and attached: an attachment waits
-- for no reader or writer of the parent, and none waits for it. Safe from several sessions at once.
CREATE FUNCTION flux.ensure_partitions(first date, last date) RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    parent text;
    d date;
    made integer := 0;
BEGIN
    FOR d IN SELECT generate_series(first::timestamp, last::timestamp, '1 day')::date LOOP
        FOREACH parent IN ARRAY ARRAY['executions', 'host_calls', 'logs', 'spans', 'mutations'] LOOP
            made := made + flux.ensure_partition(parent, d)::integer;
        END LOOP;
    END LOOP;
    RETURN made;
END $$;

-- One partition of one table, without the columns' comments. True if it was made here. Two sessions that make the same one: the second waits for the first to commit.
CREATE FUNCTION flux.ensure_partition(parent text, d date) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    child text := parent || to_char(d, '_YYYYMMDD');
BEGIN
    IF to_regclass(format('flux.%I', child)) IS NOT NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE flux.%I (LIKE flux.%I INCLUDING ALL EXCLUDING COMMENTS)', child, parent);
    EXECUTE format('ALTER TABLE flux.%I ATTACH PARTITION flux.%I FOR VALUES FROM (%L) TO (%L)', parent, child, d, d + 1);
    RETURN true;
EXCEPTION WHEN duplicate_table OR unique_violation THEN
    RETURN false;
END $$;

-- Executions whose id lies in [first, after), in the order of their ids. A function for its setting: a plan over all days'
-- partitions takes longer to make than to run, and Postgres would make it anew each time, so it is kept per session.
CREATE FUNCTION flux.executions_between(first text, after text, most integer)
RETURNS TABLE (request_id text, day date, trace_id text, started_at timestamptz, function text, status integer,
               outcome text, method text, path text)
LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan
AS $$
BEGIN
    RETURN QUERY
    SELECT e.request_id, e.day, e.trace_id, e.started_at, e.function, e.status, e.outcome, e.method, e.path
    FROM flux.executions AS e
    WHERE e.request_id >= first AND e.request_id < after
    ORDER BY e.request_id
    LIMIT most;
END $$;

SELECT flux.ensure_partitions((now() AT TIME ZONE 'UTC')::date - 1, (now() AT TIME ZONE 'UTC')::date + 7);
