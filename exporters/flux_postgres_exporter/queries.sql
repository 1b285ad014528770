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

-- name: owners
-- The execution (and its day) of each of these spans that the database knows: $1 trace ids, $2 span ids.
SELECT trace_id, span_id, request_id, day FROM flux.spans
WHERE trace_id = ANY ($1::text[]) AND span_id = ANY ($2::text[]);

-- name: staging
CREATE TEMP TABLE IF NOT EXISTS flux_staged_spans (LIKE flux.spans) ON COMMIT DELETE ROWS;

-- name: unstage
INSERT INTO flux.spans SELECT * FROM flux_staged_spans ON CONFLICT DO NOTHING;
