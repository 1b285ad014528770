-- name: by_prefix
-- Executions whose id lies in ["prefix", "prefix" + 1): the primary key of each partition answers it, in its own order.
SELECT request_id, day, trace_id, started_at, function, status, outcome, method, path
FROM flux.executions_between($1, $2, $3)

-- name: by_member
-- The record that stands for several requests, of which the one asked for is a member.
SELECT request_id, day
FROM flux.executions
WHERE request_id = $1 AND count >= $2

-- name: by_trace
-- The earliest root of a trace: what no other execution of it caused comes first.
SELECT request_id, day, trace_id, started_at, function, status, outcome, method, path
FROM flux.executions
WHERE trace_id = $1
ORDER BY parent_request_id IS NOT NULL, started_at
LIMIT 1

-- name: latest
-- The latest execution that nobody's ctx.invoke caused: a child is found inside its caller.
SELECT request_id, day, trace_id, started_at, function, status, outcome, method, path
FROM flux.executions
WHERE parent_request_id IS NULL
ORDER BY started_at DESC
LIMIT 1

-- name: drained
SELECT spool_id, segment, "offset"
FROM flux.spool_positions
WHERE consumer = 'postgres' AND spool_id = ANY ($1::text[])
