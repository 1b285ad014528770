-- name: prepared
-- Is there a flux.spans, Flux's own or made by an exporter?
SELECT to_regclass('flux.spans') IS NOT NULL;

-- name: lock
-- One session at a time makes the tables.
SELECT pg_advisory_xact_lock(hashtext('flux.spans'));

-- name: ensure_partitions
SELECT flux.ensure_partitions($1, $2);

-- name: intern_resources
INSERT INTO flux.resources (id, attributes)
SELECT id, attributes::jsonb FROM unnest($1::text[], $2::text[]) AS given (id, attributes)
ON CONFLICT DO NOTHING;

-- name: has_executions
SELECT to_regclass('flux.executions') IS NOT NULL;

-- name: owners
-- The execution (and its day) of each of these spans that the database knows: $1 trace ids, $2 span ids. Spans are found
-- by their execution alone: an execution names its trace, and a span of none has its trace's id in its place. Row by row
-- (OFFSET 0), so that no plan ever reads a whole partition.
SELECT t.trace_id, s.span_id, s.request_id, s.day
FROM unnest($1::text[]) AS t (trace_id)
CROSS JOIN LATERAL (
    SELECT e.request_id, e.day AS first, e.day AS last FROM flux.executions AS e WHERE e.trace_id = t.trace_id
  UNION ALL
    SELECT t.trace_id, '-infinity', 'infinity'
) AS e
CROSS JOIN LATERAL (
    SELECT span_id, request_id, day FROM flux.spans
    WHERE request_id = e.request_id AND day BETWEEN e.first AND e.last AND trace_id = t.trace_id
      AND span_id = ANY ($2::text[])
    OFFSET 0
) AS s;

-- name: owners_alone
-- The same where no execution is stored: each span has its trace's id in the execution's place.
SELECT t.trace_id, s.span_id, s.request_id, s.day
FROM unnest($1::text[]) AS t (trace_id)
CROSS JOIN LATERAL (
    SELECT span_id, request_id, day FROM flux.spans
    WHERE request_id = t.trace_id AND span_id = ANY ($2::text[])
    OFFSET 0
) AS s;

-- name: staging
CREATE TEMP TABLE IF NOT EXISTS flux_staged_spans (LIKE flux.spans) ON COMMIT DELETE ROWS;

-- name: unstage
INSERT INTO flux.spans SELECT * FROM flux_staged_spans ON CONFLICT DO NOTHING;
