-- name: heartbeat
INSERT INTO flux.nodes (id, host, pid, version, started_at, heartbeat_at)
VALUES ($1, $2, $3, $4, clock_timestamp(), clock_timestamp())
ON CONFLICT (id) DO UPDATE SET heartbeat_at = excluded.heartbeat_at;

-- name: node_stopped
UPDATE flux.nodes SET stopped_at = clock_timestamp(), heartbeat_at = clock_timestamp() WHERE id = $1;

-- name: partitions_ahead
-- A week of days to come, made before anyone writes to them: a write that finds none has to make it in its own transaction.
SELECT flux.ensure_partitions((now() AT TIME ZONE 'UTC')::date - 1, (now() AT TIME ZONE 'UTC')::date + 7);
