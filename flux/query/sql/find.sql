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
-- The earliest root of each trace whose id lies in ["prefix", "prefix" + 1): what no other execution of it caused comes first.
SELECT DISTINCT ON (trace_id) request_id, day, trace_id, started_at, function, status, outcome, method, path
FROM flux.executions
WHERE trace_id >= $1 AND trace_id < $2
ORDER BY trace_id, parent_request_id IS NOT NULL, started_at
LIMIT $3

-- name: spans_alone
-- Traces without an execution: their spans came through an exporter and have their trace's id in the execution's place.
SELECT s.request_id, min(s.day) AS day, min(s.start_time) AS started_at, count(*) AS spans
FROM flux.spans s
WHERE s.request_id >= $1 AND s.request_id < $2
  AND NOT EXISTS (SELECT FROM flux.executions e WHERE e.request_id = s.request_id)
GROUP BY s.request_id
ORDER BY s.request_id
LIMIT $3

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
