-- What only doctor asks.

-- name: settings
-- What the promise rests on, as this connection has it.
SELECT name, setting FROM pg_catalog.pg_settings
WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit', 'autovacuum', 'max_connections', 'superuser_reserved_connections',
               'log_min_messages', 'log_statement', 'log_min_duration_statement', 'log_min_duration_sample',
               'log_min_error_statement', 'log_transaction_sample_rate', 'auto_explain.log_min_duration')

-- name: overrides
-- Settings that the roles Flux uses have been given in this database, and whether they weaken the promise.
SELECT coalesce(r.rolname::text, 'every role') AS role, c.setting,
       c.setting IN ('synchronous_commit=off', 'synchronous_commit=local') AS dangerous
FROM pg_catalog.pg_db_role_setting s
LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole
CROSS JOIN unnest(s.setconfig) AS c (setting)
WHERE s.setdatabase IN (0, (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()))
  AND (s.setrole = 0 OR r.rolname IN ('flux_app', current_user))

-- name: role_settings
-- What somebody has given flux_app, here or everywhere.
SELECT c.setting || coalesce(' in ' || d.datname, '') AS told
FROM pg_catalog.pg_db_role_setting s
JOIN pg_catalog.pg_roles r ON r.oid = s.setrole AND r.rolname = 'flux_app'
LEFT JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase
CROSS JOIN unnest(s.setconfig) AS c (setting)

-- name: open_catalog
-- Functions of Postgres by which one function could read another's statements or end them; null where there are none.
SELECT array_agg(DISTINCT p.proname::text) FROM pg_catalog.pg_proc p
WHERE p.pronamespace = 'pg_catalog'::regnamespace AND pg_catalog.has_function_privilege('flux_app', p.oid, 'EXECUTE')
  AND p.proname IN ('pg_prepared_statement', 'pg_stat_get_activity', 'pg_stat_get_backend_activity', 'pg_terminate_backend', 'pg_cancel_backend')

-- name: applied_migrations
SELECT count(*) AS count, max(name) AS newest FROM flux.migrations
