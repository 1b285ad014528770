-- A worker's statements. A job is held by (locked_by, attempt): whoever took it over since has another attempt number, so
-- what the former holder still says about it changes nothing. No joins: the table's statistics are always out of date, and
-- `id = ANY (...)` alone is quick whatever they say.

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
WHERE j.id = ANY (ARRAY(SELECT id FROM due))
RETURNING j.id, j.name, j.payload, j.sealed, j.attempt, j.max_attempts, j.pushed_by, j.traceparent, j.created_at, j.run_at

-- name: acknowledge
-- What came of attempts of jobs $1 on node $3. $2 is {id: [attempt, status (done, queued, failed), delay until the next
-- attempt (s), attempts to give back, execution, error]}.
UPDATE flux.jobs AS j
SET status = ($2::jsonb -> j.id) ->> 1,
    attempt = j.attempt - (($2::jsonb -> j.id) ->> 3)::integer,
    run_at = CASE ($2::jsonb -> j.id) ->> 1
        WHEN 'queued' THEN now() + (($2::jsonb -> j.id) ->> 2)::float8 * interval '1 second'
        ELSE j.run_at END,
    finished_at = CASE ($2::jsonb -> j.id) ->> 1 WHEN 'queued' THEN NULL ELSE now() END,
    locked_by = NULL,
    lease_until = NULL,
    last_request_id = coalesce(($2::jsonb -> j.id) ->> 4, j.last_request_id),
    last_error = CASE ($2::jsonb -> j.id) ->> 1
        WHEN 'done' THEN NULL
        ELSE coalesce(nullif(($2::jsonb -> j.id) -> 5, 'null'), j.last_error) END
WHERE j.id = ANY ($1) AND j.locked_by = $3 AND j.attempt = (($2::jsonb -> j.id) ->> 0)::integer

-- name: renew
-- Prolong the leases of node $3 on jobs $1, at the attempts that $2 says ({id: attempt}), to $4 seconds from now; gives those
-- still held.
UPDATE flux.jobs AS j
SET lease_until = now() + $4 * interval '1 second'
WHERE j.id = ANY ($1) AND j.locked_by = $3 AND j.attempt = ($2::jsonb ->> j.id)::integer
RETURNING j.id, j.attempt

-- name: reclaim
-- Jobs whose worker let their lease run out, or is known to have ended: due again at once, or failed where that was the last
-- attempt. Gives how many of each.
WITH lost AS MATERIALIZED (
    SELECT id FROM flux.jobs AS j
    WHERE status = 'running'
      AND (lease_until < now() OR EXISTS (SELECT FROM flux.nodes n WHERE n.id = j.locked_by AND n.stopped_at IS NOT NULL))
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
    WHERE j.id = ANY (ARRAY(SELECT id FROM lost))
    RETURNING j.status
)
SELECT count(*) FILTER (WHERE status = 'queued') AS queued, count(*) FILTER (WHERE status = 'failed') AS failed FROM changed

-- name: give_back
-- Jobs that node $1 has claimed, but for $2, those it knows of: the claim's answer was lost. That attempt never began: the job
-- is due as before. Gives them.
UPDATE flux.jobs AS j
SET status = 'queued', attempt = j.attempt - 1, locked_by = NULL, lease_until = NULL
WHERE j.id = ANY (ARRAY(
    SELECT id FROM flux.jobs
    WHERE status = 'running' AND locked_by = $1 AND id <> ALL ($2)
    FOR UPDATE SKIP LOCKED))
RETURNING j.id
