-- What only doctor asks.

-- name: settings
-- What the promise rests on, as this connection has it.
SELECT name, setting FROM pg_catalog.pg_settings
WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit', 'autovacuum', 'max_connections', 'superuser_reserved_connections',
               'log_min_messages', 'log_statement', 'log_min_duration_statement', 'log_min_duration_sample',
               'log_min_error_statement', 'log_transaction_sample_rate', 'auto_explain.log_min_duration')

-- name: overrides
-- Settings that weaken the promise for the roles Flux uses, in this database.
SELECT coalesce(r.rolname::text, 'every role') AS role, c.setting
FROM pg_catalog.pg_db_role_setting s
LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole
CROSS JOIN unnest(s.setconfig) AS c (setting)
WHERE s.setdatabase IN (0, (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()))
  AND (s.setrole = 0 OR r.rolname IN ('flux_app', current_user)) AND c.setting IN ('synchronous_commit=off', 'synchronous_commit=local')

-- name: applied_migrations
SELECT count(*) AS count, max(name) AS newest FROM flux.migrations
