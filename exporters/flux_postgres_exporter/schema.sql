-- What the exporter needs of a Flux database, in a database that is none: the same tables, spans alone.
-- Run under an advisory lock, only where flux.spans does not exist. To make such a database a Flux database later, rename the
-- schema first (ALTER SCHEMA flux RENAME TO flux_spans): Flux's migrations expect to create their own.

CREATE SCHEMA IF NOT EXISTS flux;

CREATE TABLE IF NOT EXISTS flux.resources (
    id         text COLLATE "C" PRIMARY KEY,
    attributes jsonb NOT NULL
);

CREATE TABLE IF NOT EXISTS flux.spans (
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

CREATE OR REPLACE FUNCTION flux.ensure_partitions(first date, last date) RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    name text;
    d date;
    made integer := 0;
BEGIN
    FOR d IN SELECT generate_series(first::timestamp, last::timestamp, '1 day')::date LOOP
        name := 'spans_' || to_char(d, 'YYYYMMDD');
        CONTINUE WHEN to_regclass(format('flux.%I', name)) IS NOT NULL;
        PERFORM pg_advisory_xact_lock(hashtext('flux.ensure_partitions'));
        IF to_regclass(format('flux.%I', name)) IS NULL THEN
            EXECUTE format('CREATE TABLE flux.%I PARTITION OF flux.spans FOR VALUES FROM (%L) TO (%L)', name, d, d + 1);
            made := made + 1;
        END IF;
    END LOOP;
    RETURN made;
END $$;
