-- Executions that left something in Postgres (rows changed, jobs pushed, executions invoked) but no record: it is in the spool of
-- their node still. A node is silent when its process is known to have ended, or when it was not heard of for some seconds.

-- name: unrecorded
-- Those whose id lies in ["prefix", "prefix" + 1), with their node; $4: seconds after which one that was not heard of is silent.
WITH seen AS (
    SELECT request_id, day, at, application_name AS program
    FROM flux.mutations
    WHERE request_id >= $1 AND request_id < $2 AND origin <> 'outside'
  UNION ALL
    SELECT pushed_by, (created_at AT TIME ZONE 'UTC')::date, created_at, pushed_from
    FROM flux.jobs
    WHERE pushed_by >= $1 AND pushed_by < $2
  UNION ALL
    SELECT parent_request_id, day, started_at, 'flux ' || node
    FROM flux.executions
    WHERE parent_request_id >= $1 AND parent_request_id < $2 AND trigger = 'invoke'
)
SELECT s.request_id, min(s.day) AS day, min(s.at) AS at, n.id AS node, n.host, n.heartbeat_at, n.stopped_at,
       n.stopped_at IS NOT NULL OR n.heartbeat_at < clock_timestamp() - $4 * interval '1 second' AS silent,
       coalesce(p.finished, false) AS drained
FROM seen s
JOIN flux.nodes n ON s.program = 'flux ' || n.id
LEFT JOIN flux.spool_positions p ON p.spool_id = n.id AND p.consumer = 'postgres'
WHERE NOT EXISTS (SELECT FROM flux.executions e WHERE e.request_id = s.request_id)
GROUP BY s.request_id, n.id, p.finished
ORDER BY min(s.at)
LIMIT $3

-- name: silent_nodes
-- Nodes that are silent, whose spool has not been drained to its end, and that were heard of after $2 (null: ever).
SELECT n.id
FROM flux.nodes n
LEFT JOIN flux.spool_positions p ON p.spool_id = n.id AND p.consumer = 'postgres'
WHERE (n.stopped_at IS NOT NULL OR n.heartbeat_at < clock_timestamp() - $1 * interval '1 second')
  AND NOT coalesce(p.finished, false)
  AND ($2::timestamptz IS NULL OR n.heartbeat_at > $2)

-- name: unrecorded_of
-- The newest executions of nodes $1 that changed rows after $2 (null: ever) and have no record. Reads all changes since the first
-- of these nodes began: ask only where there are silent ones.
SELECT m.request_id, m.day, min(m.at) AS at, n.id AS node, n.host, n.heartbeat_at, n.stopped_at, true AS silent, false AS drained
FROM flux.nodes n
JOIN flux.mutations m ON m.application_name = 'flux ' || n.id
WHERE n.id = ANY ($1) AND m.origin <> 'outside' AND ($2::timestamptz IS NULL OR m.at > $2)
  AND m.day >= (SELECT (min(started_at) AT TIME ZONE 'UTC')::date - 1 FROM flux.nodes WHERE id = ANY ($1))
  AND ($2::timestamptz IS NULL OR m.day >= ($2::timestamptz AT TIME ZONE 'UTC')::date - 1)
  AND NOT EXISTS (SELECT FROM flux.executions e WHERE e.request_id = m.request_id AND e.day = m.day)
GROUP BY m.request_id, m.day, n.id
ORDER BY min(m.at) DESC
LIMIT $3
