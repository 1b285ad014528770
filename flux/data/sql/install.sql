-- name: adopt_cluster
-- Mutations carry the cluster's identity; after a restore into another one it is another.
SELECT flux.adopt_cluster()

-- name: tables
-- Every table of the user's, roots before their partitions, with what is wrong with its capture; `disabled`: a partition's copies of its
-- root's triggers that somebody has switched off, which an installation does not touch.
SELECT t.relation, t.schema_name, t.table_name, t.kind::text, t.extension, flux.capture_faults(t.relation) AS faults,
       ARRAY(SELECT g.tgname::text FROM pg_catalog.pg_trigger g JOIN pg_catalog.pg_proc f ON f.oid = g.tgfoid
             WHERE g.tgrelid = t.relation AND g.tgparentid <> 0 AND f.pronamespace = 'flux'::regnamespace AND g.tgenabled = 'D') AS disabled
FROM flux.user_tables t
ORDER BY t.is_partition, t.schema_name, t.table_name

-- name: kinds
-- Tables (partitions go with their roots) that are captured row by row, or whose rows a crash of Postgres takes away.
SELECT t.schema_name || '.' || t.table_name AS name, NOT flux.is_simple(t.relation) AS by_row, c.relpersistence = 'u' AS unlogged
FROM flux.user_tables t JOIN pg_catalog.pg_class c ON c.oid = t.relation
WHERE NOT t.is_partition

-- name: late
-- Tables whose mutations don't reach back to the table's beginning, or have a gap: since when they are whole.
SELECT schema_name || '.' || table_name AS name, max(at) AS at FROM flux.epochs
WHERE reason NOT IN ('created', 'dropped') GROUP BY 1

-- name: capture_table
SELECT flux.capture_table($1, 'installed'), flux.note_membership($1)

-- name: note_schema
SELECT flux.note_schema($1)

-- name: event_triggers
-- Those that are there and always enabled.
SELECT evtname::text FROM pg_catalog.pg_event_trigger WHERE evtname LIKE 'flux\_%' AND evtenabled = 'A'

-- name: drop_event_triggers
DROP EVENT TRIGGER IF EXISTS flux_ddl;
DROP EVENT TRIGGER IF EXISTS flux_rewrite;
DROP EVENT TRIGGER IF EXISTS flux_drop

-- name: create_event_triggers
CREATE EVENT TRIGGER flux_ddl ON ddl_command_end EXECUTE FUNCTION flux.on_ddl();
CREATE EVENT TRIGGER flux_rewrite ON table_rewrite EXECUTE FUNCTION flux.on_rewrite();
CREATE EVENT TRIGGER flux_drop ON sql_drop EXECUTE FUNCTION flux.on_drop();
ALTER EVENT TRIGGER flux_ddl ENABLE ALWAYS;
ALTER EVENT TRIGGER flux_rewrite ENABLE ALWAYS;
ALTER EVENT TRIGGER flux_drop ENABLE ALWAYS

-- name: has_app_role
-- Whether the functions' role exists.
SELECT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'flux_app')

-- name: user_schemas
SELECT n.nspname::text AS name FROM flux.user_schemas n ORDER BY 1

-- name: grant_schema
SELECT flux.grant_schema($1)

-- name: close_flux
-- Nothing in flux.* is anyone's but the owner's; what sessions of flux_app call there is opened again below.
REVOKE ALL ON SCHEMA flux FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA flux FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA flux FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA flux FROM PUBLIC

-- name: open_flux
-- What sessions of flux_app call in the schema flux.
DO $$
DECLARE
    f regprocedure;
BEGIN
    GRANT USAGE ON SCHEMA flux TO flux_app;
    FOR f IN SELECT p.oid FROM pg_proc p WHERE p.pronamespace = 'flux'::regnamespace AND p.proname IN ('enter', 'open_day', 'leave', 'left_nothing', 'push_job') LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO flux_app', f);
    END LOOP;
END $$

-- name: close_catalog
-- What would let one function read another's statements, or end them: all run as flux_app, and Postgres lets a role do both to its own.
-- Roles that watch over a server keep it, and so does the role that owns the schema `flux`: it tells who is in its way.
-- And what writes large objects, which no trigger sees: only where no other role may need them.
DO $$
DECLARE
    f record;
    owner text := (SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = 'flux');
BEGIN
    FOR f IN SELECT p.oid::regprocedure AS called, CASE WHEN p.proname IN ('pg_terminate_backend', 'pg_cancel_backend')
                    THEN 'pg_signal_backend' WHEN p.proname LIKE 'lo%' THEN owner ELSE 'pg_read_all_stats' END AS keeper
             FROM pg_proc p
             WHERE has_function_privilege('flux_app', p.oid, 'EXECUTE')
               AND (p.pronamespace = 'pg_catalog'::regnamespace
                    AND p.proname IN ('pg_prepared_statement', 'pg_stat_get_activity', 'pg_stat_get_backend_activity',
                                      'pg_terminate_backend', 'pg_cancel_backend')
                    OR p.pronamespace = 'pg_catalog'::regnamespace
                    AND p.proname IN ('lo_creat', 'lo_create', 'lo_from_bytea', 'lo_open', 'lo_put', 'lo_truncate', 'lo_truncate64',
                                      'lo_unlink', 'lowrite')
                    AND NOT EXISTS (SELECT FROM pg_roles WHERE rolcanlogin AND NOT rolsuper AND rolname NOT IN ('flux_app', owner))
                    OR p.proname = 'pg_stat_statements' AND EXISTS (SELECT FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
                                                                    WHERE d.objid = p.oid AND e.extname = 'pg_stat_statements'))
    LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I, %I', f.called, f.keeper, owner);
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', f.called);
    END LOOP;
END $$
