-- name: begin_position
-- A spool that was never drained begins at (0, 0).
INSERT INTO flux.spool_positions (spool_id, consumer, segment, "offset") VALUES ($1, 'postgres', 0, 0) ON CONFLICT DO NOTHING

-- name: position
SELECT segment, "offset", finished FROM flux.spool_positions WHERE spool_id = $1 AND consumer = 'postgres'

-- name: advance
-- From where it is known to stand; the row stays locked until the batch is committed, so that of two drains of one spool only
-- one can win. No row where another has won.
UPDATE flux.spool_positions
SET segment = $4, "offset" = $5, finished = $6, records = records + $7, updated_at = now()
WHERE spool_id = $1 AND consumer = 'postgres' AND segment = $2 AND "offset" = $3 AND NOT finished
RETURNING true

-- name: node_ended
-- Who holds a spool's lock knows that its writer's process is gone.
UPDATE flux.nodes SET stopped_at = clock_timestamp() WHERE id = $1 AND stopped_at IS NULL

-- name: other_consumers
-- The least segment that another consumer of this spool still needs; null where all are through with it, or there are none.
SELECT min(segment) FROM flux.spool_positions WHERE spool_id = $1 AND consumer <> 'postgres' AND NOT finished

-- name: already_there
-- Which of these executions have been emitted: their segments may be kept for others' sake after their end is gone.
SELECT request_id FROM flux.executions WHERE request_id = ANY ($1::text[]) AND day = ANY ($2::date[])
UNION
SELECT request_id FROM flux.quarantine WHERE spool_id = $3 AND request_id = ANY ($1::text[])

-- name: committed
-- Which announced rows were committed.
SELECT n, xid FROM flux.mutations
WHERE request_id = ANY ($1::text[]) AND day = ANY ($2::date[]) AND n = ANY ($3::bigint[]) AND NOT rolled_back

-- name: file_attempts
-- Rolled-back attempts that were just stored: what a row's history is found by.
UPDATE flux.mutations
SET row_hash = jsonb_hash_extended(coalesce(key, before), 0),
    moved = CASE WHEN op = 'UPDATE' AND NOT (before @> key AND after @> key) THEN true END
WHERE request_id = ANY ($1::text[]) AND day = ANY ($2::date[]) AND rolled_back AND row_hash IS NULL

-- name: system_identifier
SELECT system_identifier FROM pg_control_system()

-- name: deployment
INSERT INTO flux.deployments
    (id, function, created_at, runtime, entry, config, manifest, bundle, engine, git_commit, git_dirty)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT DO NOTHING

-- name: surroundings
INSERT INTO flux.surroundings (id, bounds, env_names, sealed) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING

-- name: function
INSERT INTO flux.functions (name, deployment, runtime, route, method, config, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (name) DO UPDATE
SET deployment = excluded.deployment, runtime = excluded.runtime, route = excluded.route, method = excluded.method,
    config = excluded.config, updated_at = excluded.updated_at
WHERE excluded.updated_at >= functions.updated_at

-- name: quarantine
INSERT INTO flux.quarantine (request_id, spool_id, segment, "offset", reason, record) VALUES ($1, $2, $3, $4, $5, $6)

-- name: quarantined
-- How many there are, and the newest one.
SELECT count(*) AS count, max(at) AS at, (SELECT reason FROM flux.quarantine ORDER BY id DESC LIMIT 1) AS reason FROM flux.quarantine

-- name: undrained
SELECT spool_id, segment, "offset", finished FROM flux.spool_positions WHERE consumer = 'postgres' AND spool_id = ANY ($1::text[])
