-- Pushes to the queue by Flux itself, on its own connections.

-- name: enqueue
-- Store jobs, in the order given: arrays of name, payload, delay ms, idempotency key, max attempts, pushed_by, pushed_seq,
-- traceparent, sealed. Notifies with its commit; only Flux's few pushing connections do that, users' transactions never.
SELECT e.id, e.duplicate, pg_notify('flux_jobs', '')
FROM unnest($1::text[], $2::bytea[], $3::bigint[], $4::text[], $5::integer[], $6::text[], $7::integer[], $8::text[],
            $9::bytea[])
     WITH ORDINALITY AS p(name, payload, delay, key, attempts, pushed_by, pushed_seq, traceparent, sealed, place),
     LATERAL flux.enqueue(p.name, p.payload, p.delay, p.key, p.attempts, p.pushed_by, p.pushed_seq, p.traceparent, p.sealed) AS e
ORDER BY p.place

-- name: notify
NOTIFY flux_jobs
