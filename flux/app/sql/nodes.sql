-- name: heartbeat
INSERT INTO flux.nodes (id, host, pid, version, started_at, heartbeat_at)
VALUES ($1, $2, $3, $4, clock_timestamp(), clock_timestamp())
ON CONFLICT (id) DO UPDATE SET heartbeat_at = excluded.heartbeat_at;

-- name: node_stopped
UPDATE flux.nodes SET stopped_at = clock_timestamp(), heartbeat_at = clock_timestamp() WHERE id = $1;
