-- A worker's statements. A job is held by (locked_by, attempt): whoever took it over since has another attempt number, so what the
-- former holder still says about it changes nothing.

-- name: claim
-- Take up to $1 due jobs for node $2 under a lease of $3 seconds; this is their next attempt.
WITH due AS MATERIALIZED (
    SELECT id FROM flux.jobs
    WHERE status = 'queued' AND run_at <= now()
    ORDER BY run_at
    LIMIT $1
    FOR UPDATE SKIP LOCKED
)
UPDATE flux.jobs AS j
SET status = 'running', attempt = j.attempt + 1, locked_by = $2, lease_until = now() + $3 * interval '1 second',
    started_at = now(), finished_at = NULL
FROM due
WHERE j.id = due.id
RETURNING j.id, j.name, j.payload, j.attempt, j.max_attempts, j.pushed_by, j.traceparent, j.created_at, j.run_at

-- name: acknowledge
-- What came of attempts: arrays of id, attempt, status (done, queued, failed), delay until the next attempt (s), attempts to give
-- back, execution, error. $8 is the node.
UPDATE flux.jobs AS j
SET status = a.status,
    attempt = j.attempt - a.given_back,
    run_at = CASE WHEN a.status = 'queued' THEN now() + a.delay * interval '1 second' ELSE j.run_at END,
    finished_at = CASE WHEN a.status = 'queued' THEN NULL ELSE now() END,
    locked_by = NULL,
    lease_until = NULL,
    last_request_id = coalesce(a.request_id, j.last_request_id),
    last_error = CASE WHEN a.status = 'done' THEN NULL ELSE coalesce(a.error, j.last_error) END
FROM unnest($1::text[], $2::integer[], $3::text[], $4::float8[], $5::integer[], $6::text[], $7::jsonb[])
     AS a(id, attempt, status, delay, given_back, request_id, error)
WHERE j.id = a.id AND j.attempt = a.attempt AND j.locked_by = $8 AND j.status = 'running'

-- name: renew
-- Prolong the leases of node $1 on jobs $2 (at attempts $3) by $4 seconds from now; gives those still held.
UPDATE flux.jobs AS j
SET lease_until = now() + $4 * interval '1 second'
FROM unnest($2::text[], $3::integer[]) AS held(id, attempt)
WHERE j.id = held.id AND j.attempt = held.attempt AND j.locked_by = $1 AND j.status = 'running'
RETURNING j.id, j.attempt

-- name: reclaim
-- Jobs whose worker let their lease run out: due again at once, or failed where that was the last attempt. Gives how many of each.
WITH lost AS MATERIALIZED (
    SELECT id FROM flux.jobs
    WHERE status = 'running' AND lease_until < now()
    LIMIT 1000
    FOR UPDATE SKIP LOCKED
), changed AS (
    UPDATE flux.jobs AS j
    SET status = CASE WHEN j.attempt < j.max_attempts THEN 'queued' ELSE 'failed' END,
        run_at = CASE WHEN j.attempt < j.max_attempts THEN now() ELSE j.run_at END,
        finished_at = CASE WHEN j.attempt < j.max_attempts THEN NULL ELSE now() END,
        last_error = jsonb_build_object('type', 'WorkerLost',
            'message', format('Attempt %s was lost: its worker %s stopped without a word.', j.attempt, j.locked_by)),
        locked_by = NULL,
        lease_until = NULL
    FROM lost
    WHERE j.id = lost.id
    RETURNING j.status
)
SELECT count(*) FILTER (WHERE status = 'queued') AS queued, count(*) FILTER (WHERE status = 'failed') AS failed FROM changed
