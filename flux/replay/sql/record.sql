-- name: executions
SELECT e.request_id, e.day, e.trace_id, e.span_id, e.trigger, e.function, e.deployment, e.node, e.guest, e.invocation, e.sent,
       e.method, e.url, e.path, e.route, e.query, e.params_exact, e.request_headers, e.body, e.body_size, e.input,
       e.output, e.output_kind, e.output_size, e.output_sha256, e.response_headers, e.status, e.outcome, e.error_exact,
       e.record, e.sealed, e.count, e.started_at, e.surroundings, s.bounds, s.sealed AS surroundings_sealed
FROM flux.executions AS e
LEFT JOIN flux.surroundings AS s ON s.id = e.surroundings
WHERE e.request_id = ANY ($1::text[])

-- name: original
-- What a replay repeats; null of another execution.
SELECT replay_of FROM flux.executions WHERE request_id = $1

-- name: calls
SELECT request_id, seq, op, arguments, arguments_size, arguments_sha256, result, result_size, error_exact, delivered, tx,
       parent_span_id, now_ns, sealed
FROM flux.host_calls
WHERE request_id = ANY ($1::text[]) AND day = ANY ($2::date[])

-- name: logs
SELECT request_id, seq, level, message, fields, sealed
FROM flux.logs
WHERE request_id = ANY ($1::text[]) AND day = ANY ($2::date[])

-- name: spans
-- The function's span, and those that the function opened.
SELECT request_id, span_id, name, coalesce(scope, '') = 'flux.function' AS opened
FROM flux.spans
WHERE request_id = ANY ($1::text[]) AND day = ANY ($2::date[])
  AND (scope = 'flux.function' OR attributes ? 'flux.deployment')
ORDER BY start_ns

-- name: deployments
SELECT id, function, runtime, entry, config, manifest, bundle, engine FROM flux.deployments WHERE id = ANY ($1::text[])

-- name: window
-- What ran since: no rejections, which never ran, and no replays. Oldest first.
SELECT request_id, guest FROM flux.executions
WHERE started_at >= $1 AND started_at <= $2 AND trigger <> 'replay' AND outcome <> 'rejected' AND function IS NOT NULL
  AND ($3::text IS NULL OR function = $3)
  AND (NOT $4::boolean OR outcome <> 'ok' OR status >= 400)
ORDER BY started_at, request_id

-- name: before
-- The invocations of one guest process up to one of them, the latest first. Replays have its name without being in it.
SELECT request_id FROM flux.executions
WHERE function = $1 AND guest = $2 AND node = $3 AND sent <= $4 AND trigger <> 'replay'
ORDER BY sent DESC LIMIT $5
