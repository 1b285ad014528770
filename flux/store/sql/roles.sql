-- The role that functions run as.

-- name: app_role
-- Whether it exists, is as powerless as it has to be, may connect here, and is not who asks.
SELECT r.rolcanlogin AND NOT (r.rolsuper OR r.rolbypassrls OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication)
           AS powerless,
       pg_catalog.has_database_privilege(r.oid, pg_catalog.current_database(), 'CONNECT') AS connects,
       r.rolname = current_user AS self
FROM pg_catalog.pg_roles r
WHERE r.rolname = 'flux_app'

-- name: create_app_role
CREATE ROLE flux_app LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS

-- name: grant_connect
DO $$ BEGIN
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO flux_app', current_database());
END $$

-- name: set_app_password
-- Values can't be bound in utility statements, so format() quotes it.
SELECT pg_catalog.format('ALTER ROLE flux_app PASSWORD %L', $1::text)

-- name: role_settings_off
-- Statements that take off what settings the role has, in all databases and in single ones.
SELECT pg_catalog.array_agg(pg_catalog.format('ALTER ROLE flux_app IN DATABASE %I RESET ALL', d.datname)) FILTER (WHERE d.oid IS NOT NULL)
       || ARRAY['ALTER ROLE flux_app RESET ALL']
FROM pg_catalog.pg_db_role_setting s
JOIN pg_catalog.pg_roles r ON r.oid = s.setrole AND r.rolname = 'flux_app'
LEFT JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase
