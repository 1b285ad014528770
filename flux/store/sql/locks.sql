-- Who is in the way of Flux's own transactions.

-- name: holders
-- Other sessions that have held locks on tables of this database, or advisory ones, for so many seconds; the oldest first.
SELECT pg_catalog.format('process %s of %s (%s), %s for %s s: %s', a.pid, a.usename, coalesce(nullif(a.application_name, ''), 'no name'),
                         a.state, round(extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, a.state_change)))::bigint,
                         pg_catalog.regexp_replace(pg_catalog.left(a.query, 120), '\s+', ' ', 'g')) AS told
FROM pg_catalog.pg_stat_activity a
WHERE a.pid <> pg_catalog.pg_backend_pid() AND a.datname = pg_catalog.current_database()
  AND EXISTS (SELECT FROM pg_catalog.pg_locks l
              WHERE l.pid = a.pid AND l.granted
                AND (l.locktype = 'relation' AND l.relation >= 16384 AND l.mode <> 'AccessShareLock' OR l.locktype = 'advisory'
                     OR l.locktype = 'relation' AND l.relation >= 16384 AND a.state LIKE 'idle in transaction%'))
  AND clock_timestamp() - coalesce(a.xact_start, a.state_change) >= $1 * interval '1 second'
ORDER BY a.xact_start NULLS LAST
LIMIT 3
