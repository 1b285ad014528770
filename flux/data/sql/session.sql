-- Statements that a function's session sends for Flux itself, on the function's connection. All that they name is qualified.

-- name: push_job
SELECT id, duplicate FROM flux.push_job($1, $2, $3, $4, $5, $6, $7, $8, $9)

-- name: session_facts
-- isolation: of a transaction that names none. protected: functions run as a role of their own. exposed: they can read what is prepared.
-- settings: those that somebody gave the role. dblink: SQL that ends its connections, where it is installed.
SELECT pg_catalog.current_setting('default_transaction_isolation') AS isolation,
       session_user = 'flux_app' AS protected,
       pg_catalog.has_function_privilege('pg_catalog.pg_prepared_statement()', 'EXECUTE') AS exposed,
       (SELECT pg_catalog.format('; SELECT %s(c) FROM pg_catalog.unnest(%s()) c',
                                 pg_catalog.replace(p.oid::pg_catalog.regproc::text, 'dblink_get_connections', 'dblink_disconnect'),
                                 p.oid::pg_catalog.regproc)
        FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_depend d ON d.objid = p.oid AND d.deptype = 'e'
        JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid AND e.extname = 'dblink'
        WHERE p.proname = 'dblink_get_connections') AS dblink,
       ARRAY(SELECT pg_catalog.unnest(s.setconfig) FROM pg_catalog.pg_db_role_setting s
             JOIN pg_catalog.pg_roles r ON r.oid = s.setrole
             WHERE r.rolname = session_user AND r.rolname = 'flux_app'
               AND s.setdatabase IN (0, (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()))
       ) AS settings

-- name: open_day
SELECT flux.open_day($1, $2)

-- name: search_path
-- Set it, and say what it was.
SELECT pg_catalog.current_setting('search_path') AS was, pg_catalog.set_config('search_path', $1, false)

-- name: enter
-- Enter, and the snapshot. In a transaction that has just begun and takes a snapshot for each statement. flux.transaction: see `began`.
SELECT pg_catalog.pg_current_snapshot()::text AS snapshot, flux.enter($1, $2, $3, $4, $5, $6),
       pg_catalog.set_config('flux.transaction', 'begun', true)

-- name: snapshot
SELECT pg_catalog.pg_current_snapshot()::text AS snapshot, pg_catalog.set_config('flux.transaction', 'begun', true)

-- name: began
-- Whether the transaction is still the one that Flux began: a local setting ends with it. Takes no snapshot.
SHOW flux.transaction
