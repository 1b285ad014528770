-- name: trace
-- All that one execution left, in one round trip: each row is of one part, and its columns stand in the order that
-- flux.query.parts names them in. Put to the partitions of the day.
SELECT 'execution' AS part, request_id, ROW(
       request_id, day, trace_id, span_id, parent_request_id, trigger, function, deployment, node, guest, invocation,
       method, url, path, route, query, params::text, request_headers::text, client_request_id, client,
       body, body_size, input, output, output_kind, output_size, response_headers::text,
       status, outcome, started_at, answered_ms, duration_ms, error::text, record, replay_of, job_id, job_attempt, warnings::text, count
) AS columns
FROM flux.executions
WHERE request_id = $1 AND day = $2
UNION ALL
SELECT 'span', request_id, ROW(
       span_id, trace_id, parent_span_id, name, kind, start_time, start_ns, duration_ns, status, status_message,
       attributes::text, events::text, links::text, scope)
FROM flux.spans
WHERE request_id = $1 AND day = $2
UNION ALL
SELECT 'host_call', request_id, ROW(
       seq, op, arguments, arguments_size, result, result_size, error::text, status, started, delivered, at, duration_ms,
       span_id, parent_span_id, tx, xid::text, snapshot::text, first_n, last_n)
FROM flux.host_calls
WHERE request_id = $1 AND day = $2
UNION ALL
SELECT 'mutation', request_id, ROW(
       request_id, n, xid::text, schema_name, table_name, op, key::text, before::text, after::text, at, origin, actor,
       application_name, rolled_back, seq, cut)
FROM flux.mutations
WHERE request_id = $1 AND day = $2
UNION ALL
SELECT 'log', request_id, ROW(seq, at, level, message, fields, span_id)
FROM flux.logs
WHERE request_id = $1 AND day = $2

-- name: spans_of
-- The spans of a trace that has no execution: they may begin on several days.
SELECT 'span' AS part, request_id, ROW(
       span_id, trace_id, parent_span_id, name, kind, start_time, start_ns, duration_ns, status, status_message,
       attributes::text, events::text, links::text, scope)
FROM flux.spans
WHERE request_id = $1
ORDER BY start_ns
LIMIT $2

-- name: descendants
-- Executions that this one invoked or pushed as jobs, and those that came of them in turn.
WITH RECURSIVE found AS (
    SELECT request_id, day, started_at, 1 AS depth
    FROM flux.executions
    WHERE parent_request_id = $1 AND day >= $2
  UNION ALL
    SELECT e.request_id, e.day, e.started_at, f.depth + 1
    FROM found f
    JOIN flux.executions e ON e.parent_request_id = f.request_id AND e.day >= $2
    WHERE f.depth < 32
)
SELECT request_id, day FROM found ORDER BY depth, started_at LIMIT $3

-- name: deployment
SELECT id, function, created_at, runtime, entry, git_commit, git_dirty
FROM flux.deployments
WHERE id = $1

-- name: bundle
SELECT bundle FROM flux.deployments WHERE id = $1
