-- name: successes_around
-- Executions of the same function that went well, those before this one and those after it.
SELECT * FROM (
    SELECT request_id, day, deployment, started_at, body, input, params::text
    FROM flux.executions
    WHERE function = $1 AND started_at <= $2 AND outcome = 'ok' AND (status IS NULL OR status < 400) AND request_id <> $3
      AND replay_of IS NULL
    ORDER BY started_at DESC
    LIMIT $4
) earlier
UNION ALL
SELECT * FROM (
    SELECT request_id, day, deployment, started_at, body, input, params::text
    FROM flux.executions
    WHERE function = $1 AND started_at > $2 AND outcome = 'ok' AND (status IS NULL OR status < 400) AND request_id <> $3
      AND replay_of IS NULL
    ORDER BY started_at
    LIMIT $4
) later

-- name: routes
SELECT name, route, method FROM flux.functions ORDER BY route

-- name: row_by_columns
-- The newest committed mutation, among the table's latest, that left these values in a row (or took such a row away).
SELECT key::text
FROM (
    SELECT n, key, before, after
    FROM flux.mutations
    WHERE schema_name = $1 AND table_name = $2 AND NOT rolled_back AND key IS NOT NULL
    ORDER BY n DESC
    LIMIT 10000
) m
WHERE m.after @> $3::jsonb OR m.before @> $3::jsonb
ORDER BY m.n DESC
LIMIT 1
