-- name: latest_executions
-- The newest executions that fit; a null argument fits all.
SELECT request_id, day, trace_id, trigger, function, deployment, method, path, status, outcome, started_at, duration_ms,
       error::text, replay_of, parent_request_id, job_id, job_attempt, count, route, warnings::text
FROM flux.executions
WHERE ($1::text IS NULL OR function = $1)
  AND ($2::text IS NULL OR status::text LIKE $2)
  AND (NOT $3::boolean OR outcome <> 'ok' OR status >= 500)
  AND ($4::timestamptz IS NULL OR started_at > $4)
ORDER BY started_at DESC
LIMIT $5

-- name: late_executions
-- Long ones that began before the window `latest_executions` looks into, and ended or were found interrupted since.
SELECT request_id, day, trace_id, trigger, function, deployment, method, path, status, outcome, started_at, duration_ms,
       error::text, replay_of, parent_request_id, job_id, job_attempt, count, route, warnings::text
FROM flux.executions
WHERE ($1::text IS NULL OR function = $1)
  AND ($2::text IS NULL OR status::text LIKE $2)
  AND (NOT $3::boolean OR outcome <> 'ok' OR status >= 500)
  AND started_at > $4 AND started_at <= $5
  AND (duration_ms IS NULL OR duration_ms > $6)
ORDER BY started_at DESC
LIMIT $7

-- name: latest_logs
-- The newest log lines that fit, each with its execution's function; a null argument fits all.
SELECT l.request_id, l.day, l.seq, l.at, l.level, l.message, l.fields, l.span_id, e.function, e.trace_id
FROM flux.logs l
JOIN flux.executions e ON e.request_id = l.request_id AND e.day = l.day
WHERE ($1::text IS NULL OR e.function = $1)
  AND ($2::text[] IS NULL OR l.level = ANY ($2))
  AND ($3::timestamptz IS NULL OR l.at > $3)
ORDER BY l.at DESC, l.request_id, l.seq DESC
LIMIT $4

-- name: logs_of
-- All log lines of one trace's executions or of one execution.
SELECT l.request_id, l.day, l.seq, l.at, l.level, l.message, l.fields, l.span_id, e.function, e.trace_id
FROM flux.executions e
JOIN flux.logs l ON l.request_id = e.request_id AND l.day = e.day
WHERE e.request_id = $1 AND e.day = $2
  AND ($3::text[] IS NULL OR l.level = ANY ($3))
ORDER BY l.seq
