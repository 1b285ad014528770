-- What metrics and doctor ask of Postgres. All of it is quick whatever has piled up: partial indexes, or tables that stay small.

-- name: clock
SELECT clock_timestamp()

-- name: jobs
-- queued: due now. delayed: due later. stuck: its worker's lease ran out a while ago and nobody took it over. failed: out of attempts. oldest: s since the
-- longest due one was due.
SELECT (SELECT count(*) FROM flux.jobs WHERE status = 'queued' AND run_at <= now()) AS queued,
       (SELECT count(*) FROM flux.jobs WHERE status = 'queued' AND run_at > now()) AS delayed,
       (SELECT count(*) FROM flux.jobs WHERE status = 'running') AS running,
       (SELECT count(*) FROM flux.jobs WHERE status = 'running' AND lease_until < now() - interval '15 s') AS stuck,
       (SELECT count(*) FROM flux.jobs WHERE status = 'failed') AS failed,
       (SELECT count(*) FROM flux.jobs WHERE status = 'failed' AND finished_at > now() - interval '1 day') AS failed_today,
       coalesce((SELECT extract(epoch FROM now() - min(run_at)) FROM flux.jobs WHERE status = 'queued' AND run_at <= now()), 0)::float8 AS oldest

-- name: newest_failed_job
SELECT id, name, last_error ->> 'message' AS message, last_request_id FROM flux.jobs WHERE status = 'failed' ORDER BY finished_at DESC LIMIT 1

-- name: quarantined_records
SELECT count(*) FROM flux.quarantine

-- name: drained_records
-- What of the spool $1 has been stored.
SELECT coalesce(sum(records), 0)::bigint FROM flux.spool_positions WHERE spool_id = $1 AND consumer = 'postgres'

-- name: nodes
-- Serving processes that have not said goodbye, and whose spool has not been drained to its end by another since. `silent`: s since the last heartbeat
-- where those are more than $1.
SELECT n.id, n.host, n.pid, n.version, n.clock_offset_ms,
       (SELECT s.silent WHERE s.silent > $1) AS silent
FROM flux.nodes n
CROSS JOIN LATERAL (SELECT extract(epoch FROM clock_timestamp() - n.heartbeat_at)::float8 AS silent) s
WHERE n.stopped_at IS NULL
  AND NOT EXISTS (SELECT FROM flux.spool_positions p WHERE p.spool_id = n.id AND p.consumer = 'postgres' AND p.finished)
ORDER BY n.started_at

-- name: days_ahead
-- How many days from today on, today included, have a partition in each of the record's tables without a gap.
SELECT count(*) FROM (
    SELECT d, bool_and(to_regclass(format('flux.%I', parent || to_char(d, '_YYYYMMDD'))) IS NOT NULL) AS whole,
           bool_and(bool_and(to_regclass(format('flux.%I', parent || to_char(d, '_YYYYMMDD'))) IS NOT NULL)) OVER (ORDER BY d) AS so_far
    FROM generate_series((now() AT TIME ZONE 'UTC')::date, (now() AT TIME ZONE 'UTC')::date + 30, interval '1 day') AS d
    CROSS JOIN unnest(ARRAY['executions', 'host_calls', 'logs', 'spans', 'mutations']) AS parent
    GROUP BY d) AS days
WHERE so_far
