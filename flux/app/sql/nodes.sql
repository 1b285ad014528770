-- name: heartbeat
-- $5: how far the node's clock was from this server's at the heartbeat before, ms.
INSERT INTO flux.nodes AS n (id, host, pid, version, started_at, heartbeat_at, clock_offset_ms)
VALUES ($1, $2, $3, $4, clock_timestamp(), clock_timestamp(), $5)
ON CONFLICT (id) DO UPDATE SET heartbeat_at = excluded.heartbeat_at, clock_offset_ms = coalesce(excluded.clock_offset_ms, n.clock_offset_ms)
RETURNING clock_timestamp();

-- name: node_stopped
UPDATE flux.nodes SET stopped_at = clock_timestamp(), heartbeat_at = clock_timestamp() WHERE id = $1;

-- name: partitions_ahead
-- A week of days to come, made before anyone writes to them: a write that finds none has to make it in its own transaction.
SELECT flux.ensure_partitions((now() AT TIME ZONE 'UTC')::date - 1, (now() AT TIME ZONE 'UTC')::date + 7);
