-- Pushes to the queue by Flux itself, on its own connections.

-- name: enqueue
-- $1 name, $2 payload, $3 delay ms, $4 idempotency key, $5 max attempts, $6 pushed_by, $7 pushed_seq, $8 traceparent.
SELECT id, duplicate FROM flux.enqueue($1, $2, $3, $4, $5, $6, $7, $8)

-- name: notify
NOTIFY flux_jobs
