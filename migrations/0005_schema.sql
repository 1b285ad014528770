-- The user's schema: which tables there are, how capture comes to stand on them, and what they looked like when.

CREATE TABLE flux.epochs (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    table_oid   oid NOT NULL,
    schema_name text NOT NULL,
    table_name  text NOT NULL,
    schema_hash text COLLATE "C" NOT NULL,
    snapshot    pg_snapshot NOT NULL,
    xid         xid8 NOT NULL,
    n           bigint NOT NULL,
    at          timestamptz NOT NULL,
    reason      text NOT NULL,
    pending     jsonb
);
CREATE INDEX epochs_pending ON flux.epochs (n) WHERE pending IS NOT NULL;
CREATE INDEX epochs_table ON flux.epochs (schema_name, table_name, n);
COMMENT ON TABLE flux.epochs IS 'Points that a table''s mutations can''t be read across: its capture began, or it changed without firing triggers.';
COMMENT ON COLUMN flux.epochs.id IS 'In the order in which they were noted.';
COMMENT ON COLUMN flux.epochs.table_oid IS 'The table, or the partition.';
COMMENT ON COLUMN flux.epochs.schema_name IS 'The table''s schema; a partition''s root''s.';
COMMENT ON COLUMN flux.epochs.table_name IS 'The table; a partition''s root.';
COMMENT ON COLUMN flux.epochs.schema_hash IS 'The md5 of the table''s definition then; empty where it was dropped.';
COMMENT ON COLUMN flux.epochs.snapshot IS 'The transactions that were committed then.';
COMMENT ON COLUMN flux.epochs.xid IS 'The transaction that noted it.';
COMMENT ON COLUMN flux.epochs.n IS 'Mutations of the table with a smaller n came before.';
COMMENT ON COLUMN flux.epochs.at IS 'When, by Postgres'' clock.';
COMMENT ON COLUMN flux.epochs.reason IS 'installed, created, create table as, rewrite, attached, detached, column dropped, dropped, truncate not captured, truncate beyond its snapshot.';
COMMENT ON COLUMN flux.epochs.pending IS 'What flux.complete_truncations needs to find the mutations that are missing; null where nothing is, or they can''t be found.';

CREATE TABLE flux.schema_versions (
    hash       text COLLATE "C" PRIMARY KEY,
    definition jsonb NOT NULL,
    at         timestamptz NOT NULL,
    snapshot   pg_snapshot NOT NULL,
    actor      text NOT NULL
);
COMMENT ON TABLE flux.schema_versions IS 'The user''s schema as it was, each state once.';
COMMENT ON COLUMN flux.schema_versions.hash IS 'The md5 of the definition.';
COMMENT ON COLUMN flux.schema_versions.definition IS 'Tables with their indexes, constraints and triggers; views, sequences, functions, types, extensions.';
COMMENT ON COLUMN flux.schema_versions.at IS 'When it was first seen, by Postgres'' clock.';
COMMENT ON COLUMN flux.schema_versions.snapshot IS 'The transactions that were committed then.';
COMMENT ON COLUMN flux.schema_versions.actor IS 'The database role that made it so.';

CREATE TABLE flux.schema_changes (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    hash     text COLLATE "C" NOT NULL REFERENCES flux.schema_versions,
    at       timestamptz NOT NULL,
    xid      xid8 NOT NULL,
    snapshot pg_snapshot NOT NULL,
    n        bigint NOT NULL,
    actor    text NOT NULL,
    command  text NOT NULL
);
COMMENT ON TABLE flux.schema_changes IS 'When the schema became which version: the newest row at or before a moment names the schema then.';
COMMENT ON COLUMN flux.schema_changes.id IS 'In the order in which they were noted.';
COMMENT ON COLUMN flux.schema_changes.hash IS 'flux.schema_versions.hash of what it became.';
COMMENT ON COLUMN flux.schema_changes.at IS 'When, by Postgres'' clock.';
COMMENT ON COLUMN flux.schema_changes.xid IS 'The transaction that changed it.';
COMMENT ON COLUMN flux.schema_changes.snapshot IS 'The transactions that were committed then.';
COMMENT ON COLUMN flux.schema_changes.n IS 'Mutations with a smaller n came before.';
COMMENT ON COLUMN flux.schema_changes.actor IS 'The database role that changed it.';
COMMENT ON COLUMN flux.schema_changes.command IS 'The command''s tag (ALTER TABLE), the schema file, or what noticed it.';

CREATE TABLE flux.schema_files (
    name       text COLLATE "C" PRIMARY KEY,
    sha256     text COLLATE "C" NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    content    text NOT NULL
);
COMMENT ON TABLE flux.schema_files IS 'The project''s schema/*.sql as they were applied.';
COMMENT ON COLUMN flux.schema_files.name IS 'The file''s name.';
COMMENT ON COLUMN flux.schema_files.sha256 IS 'Of the file''s bytes, in hex: a file that was edited since shows.';
COMMENT ON COLUMN flux.schema_files.applied_at IS 'When it was applied.';
COMMENT ON COLUMN flux.schema_files.content IS 'Its text.';

CREATE TABLE flux.partitions (
    relation oid PRIMARY KEY,
    parent   oid NOT NULL
);
COMMENT ON TABLE flux.partitions IS 'Which of the user''s tables were partitions of which when capture last looked: one that is attached or detached with rows in it makes an epoch.';
COMMENT ON COLUMN flux.partitions.relation IS 'The partition.';
COMMENT ON COLUMN flux.partitions.parent IS 'The table that it is a partition of.';

-- A table's state, as its schema hash is taken from it.
CREATE FUNCTION flux.table_definition(relation oid) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_build_object(
        'schema', n.nspname, 'name', c.relname, 'kind', c.relkind, 'persistence', c.relpersistence,
        'partition_of', (SELECT i.inhparent::regclass::text FROM pg_inherits i WHERE i.inhrelid = c.oid AND c.relispartition),
        'partition_bound', pg_get_expr(c.relpartbound, c.oid), 'partition_key', pg_get_partkeydef(c.oid),
        'row_security', c.relrowsecurity,
        'columns', (SELECT jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
                        'name', a.attname, 'type', format_type(a.atttypid, a.atttypmod), 'not_null', a.attnotnull,
                        'default', pg_get_expr(d.adbin, d.adrelid), 'identity', nullif(a.attidentity, ''),
                        'generated', nullif(a.attgenerated, ''),
                        'collation', (SELECT co.collname FROM pg_collation co JOIN pg_type ty ON ty.oid = a.atttypid
                                      WHERE co.oid = a.attcollation AND a.attcollation <> ty.typcollation))) ORDER BY a.attnum)
                    FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
                    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
        'constraints', (SELECT jsonb_object_agg(k.conname, pg_get_constraintdef(k.oid)) FROM pg_constraint k WHERE k.conrelid = c.oid),
        'indexes', (SELECT jsonb_object_agg(i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid)) FROM pg_index i
                    WHERE i.indrelid = c.oid),
        'triggers', (SELECT jsonb_object_agg(g.tgname, pg_get_triggerdef(g.oid)) FROM pg_trigger g
                     JOIN pg_proc f ON f.oid = g.tgfoid
                     WHERE g.tgrelid = c.oid AND NOT g.tgisinternal AND f.pronamespace <> 'flux'::regnamespace))
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = relation
$$;

-- The user's tables: ordinary and partitioned ones, partitions too, in any schema but Flux's and the system's.
CREATE VIEW flux.user_tables AS
    SELECT c.oid AS relation, n.nspname AS schema_name, c.relname AS table_name, c.relkind AS kind, c.relispartition AS is_partition,
           (SELECT e.extname FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
            WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
            LIMIT 1) AS extension
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'f') AND c.relpersistence <> 't' AND n.nspname NOT IN ('flux', 'pg_catalog', 'information_schema')
      AND n.nspname NOT LIKE 'pg\_toast%' AND n.nspname NOT LIKE 'pg\_temp\_%';
COMMENT ON VIEW flux.user_tables IS 'The user''s tables, partitions and foreign tables: what capture looks after.';
COMMENT ON COLUMN flux.user_tables.relation IS 'The table''s oid.';
COMMENT ON COLUMN flux.user_tables.schema_name IS 'Its schema.';
COMMENT ON COLUMN flux.user_tables.table_name IS 'Its name.';
COMMENT ON COLUMN flux.user_tables.kind IS 'r: table, p: partitioned table, f: foreign table.';
COMMENT ON COLUMN flux.user_tables.is_partition IS 'Whether it is a partition of another table.';
COMMENT ON COLUMN flux.user_tables.extension IS 'The extension that it belongs to; null where it is the user''s own.';

CREATE VIEW flux.user_schemas AS
    SELECT n.oid, n.nspname FROM pg_namespace n WHERE n.nspname NOT IN ('flux', 'pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\_%';
COMMENT ON VIEW flux.user_schemas IS 'The user''s schemas: all but Flux''s and the system''s.';
COMMENT ON COLUMN flux.user_schemas.oid IS 'The schema''s oid.';
COMMENT ON COLUMN flux.user_schemas.nspname IS 'Its name.';

CREATE FUNCTION flux.is_of_extension(class oid, object oid) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = class AND d.objid = object AND d.deptype = 'e')
$$;

-- Note that mutations of a table can't be read across this moment.
CREATE FUNCTION flux.note_epoch(relation oid, reason text) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO flux.epochs (table_oid, schema_name, table_name, schema_hash, snapshot, xid, n, at, reason)
    SELECT relation, r.schema_name, r.table_name, md5(coalesce(flux.table_definition(relation)::text, '')), pg_current_snapshot(),
           pg_current_xact_id(), nextval('flux.mutation_order'), clock_timestamp(), reason
    FROM flux.root_of(relation) r
$$;

-- Store the schema as it is now, if it differs from what was stored last. True if it did.
CREATE FUNCTION flux.note_schema(command text) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    state jsonb;
    state_hash text;
    who text := CASE current_setting('role') WHEN 'none' THEN session_user::text ELSE current_setting('role') END;
BEGIN
    SELECT jsonb_build_object(
        'tables', (SELECT jsonb_object_agg(format('%I.%I', t.schema_name, t.table_name), flux.table_definition(t.relation))
                   FROM flux.user_tables t WHERE t.extension IS NULL),
        'views', (SELECT jsonb_object_agg(format('%I.%I', n.nspname, c.relname), pg_get_viewdef(c.oid)) FROM pg_class c
                  JOIN flux.user_schemas n ON n.oid = c.relnamespace WHERE c.relkind IN ('v', 'm') AND NOT flux.is_of_extension('pg_class'::regclass, c.oid)),
        'sequences', (SELECT jsonb_object_agg(format('%I.%I', n.nspname, c.relname), jsonb_build_array(format_type(q.seqtypid, NULL), q.seqstart,
                             q.seqincrement, q.seqmin, q.seqmax, q.seqcache, q.seqcycle)) FROM pg_class c
                      JOIN flux.user_schemas n ON n.oid = c.relnamespace JOIN pg_sequence q ON q.seqrelid = c.oid),
        'functions', (SELECT jsonb_object_agg(f.oid::regprocedure::text, pg_get_functiondef(f.oid)) FROM pg_proc f
                      JOIN flux.user_schemas n ON n.oid = f.pronamespace WHERE f.prokind IN ('f', 'p') AND NOT flux.is_of_extension('pg_proc'::regclass, f.oid)),
        'types', (SELECT jsonb_object_agg(t.oid::regtype::text, jsonb_strip_nulls(jsonb_build_object('kind', t.typtype,
                         'labels', (SELECT jsonb_agg(e.enumlabel ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = t.oid),
                         'base', CASE t.typtype WHEN 'd' THEN format_type(t.typbasetype, t.typtypmod) END, 'default', t.typdefault,
                         'constraints', (SELECT jsonb_agg(pg_get_constraintdef(k.oid) ORDER BY k.conname) FROM pg_constraint k WHERE k.contypid = t.oid))))
                  FROM pg_type t JOIN flux.user_schemas n ON n.oid = t.typnamespace
                  WHERE t.typtype IN ('e', 'd') AND NOT flux.is_of_extension('pg_type'::regclass, t.oid)),
        'extensions', (SELECT jsonb_object_agg(e.extname, e.extversion) FROM pg_extension e))
    INTO state;
    state_hash := md5(state::text);
    IF state_hash IS NOT DISTINCT FROM (SELECT c.hash FROM flux.schema_changes c ORDER BY c.id DESC LIMIT 1) THEN
        RETURN false;
    END IF;
    INSERT INTO flux.schema_versions (hash, definition, at, snapshot, actor)
    VALUES (state_hash, state, clock_timestamp(), pg_current_snapshot(), who) ON CONFLICT DO NOTHING;
    INSERT INTO flux.schema_changes (hash, at, xid, snapshot, n, actor, command)
    VALUES (state_hash, clock_timestamp(), pg_current_xact_id(), pg_current_snapshot(), nextval('flux.mutation_order'), who, command);
    RETURN true;
END $$;

-- Installing ---------------------------------------------------------------------------------------------------------

-- Whether a statement on this table may be captured at its end: nothing of the user's runs in its middle that could write the same rows. Not so with
-- triggers on it or on a table that its foreign keys cascade to, with a cascade back to itself, or with partitions.
CREATE FUNCTION flux.is_simple(relation oid) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH RECURSIVE reached (oid) AS (
        SELECT k.conrelid FROM pg_constraint k
        WHERE k.confrelid = relation AND k.contype = 'f' AND (k.confdeltype IN ('c', 'n', 'd') OR k.confupdtype IN ('c', 'n', 'd'))
        UNION
        SELECT k.conrelid FROM reached r JOIN pg_constraint k ON k.confrelid = r.oid
        WHERE k.contype = 'f' AND (k.confdeltype IN ('c', 'n', 'd') OR k.confupdtype IN ('c', 'n', 'd')))
    SELECT c.relkind = 'r' AND NOT c.relispartition AND relation NOT IN (SELECT oid FROM reached)
       AND NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = relation OR i.inhparent = relation)
       AND NOT EXISTS (SELECT FROM pg_rewrite w WHERE w.ev_class = relation)
       AND NOT EXISTS (
            SELECT FROM pg_trigger g JOIN pg_proc f ON f.oid = g.tgfoid
            WHERE (g.tgrelid = relation OR g.tgrelid IN (SELECT oid FROM reached))
              AND NOT g.tgisinternal AND f.pronamespace <> 'flux'::regnamespace)
    FROM pg_class c WHERE c.oid = relation
$$;

-- Whether the images of a table's rows depend on settings besides TimeZone and extra_float_digits: true unless to_jsonb converts all of its
-- columns' types by itself, or they are arrays of such types.
CREATE FUNCTION flux.needs_settings(relation oid) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (
        SELECT FROM pg_attribute a
        JOIN pg_type t ON t.oid = a.atttypid
        JOIN pg_type e ON e.oid = CASE WHEN t.typcategory = 'A' AND t.typelem <> 0 THEN t.typelem ELSE t.oid END
        WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped AND e.typtype <> 'e'
          AND e.oid NOT IN ('bool'::regtype, 'int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'float4'::regtype, 'float8'::regtype,
                            'numeric'::regtype, 'text'::regtype, 'varchar'::regtype, 'bpchar'::regtype, 'uuid'::regtype, 'json'::regtype,
                            'jsonb'::regtype, 'date'::regtype, 'timestamp'::regtype, 'timestamptz'::regtype))
$$;

-- The triggers that a table should have: name, function, what fires it.
CREATE FUNCTION flux.wanted_triggers(relation oid) RETURNS TABLE (name text, function text, events text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT w.name, w.function || CASE WHEN w.function LIKE '%.capture_%' AND w.simple IS NOT NULL AND NOT settings THEN '_plain' ELSE '' END, w.events
    FROM pg_class c
    CROSS JOIN flux.is_simple(relation) AS whole
    CROSS JOIN flux.needs_settings(relation) AS settings
    JOIN (VALUES
        (true, '!flux_insert', 'flux.capture_statement', 'AFTER INSERT ON %s REFERENCING NEW TABLE AS flux_new FOR EACH STATEMENT'),
        (true, '!flux_update', 'flux.capture_statement',
         'AFTER UPDATE ON %s REFERENCING OLD TABLE AS flux_old NEW TABLE AS flux_new FOR EACH STATEMENT'),
        (true, '!flux_delete', 'flux.capture_statement', 'AFTER DELETE ON %s REFERENCING OLD TABLE AS flux_old FOR EACH STATEMENT'),
        (false, '!flux_capture', 'flux.capture_row', 'AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW'),
        (false, '!flux_announce', 'flux.announce', 'AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH STATEMENT'),
        (NULL, '~flux_truncate', 'flux.capture_truncate', 'BEFORE TRUNCATE ON %s FOR EACH STATEMENT')
    ) AS w (simple, name, function, events) ON w.simple IS NULL OR w.simple = whole
    WHERE c.oid = relation AND NOT (c.relispartition AND w.name = '!flux_capture')
$$;

-- The arguments of a table's triggers.
CREATE FUNCTION flux.trigger_arguments(relation oid) RETURNS text[]
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT ARRAY[CASE WHEN c.relispartition OR c.relkind = 'p' THEN 'p' ELSE '' END,
                 (SELECT coalesce(array_agg(a.attname ORDER BY a.attnum), '{}')::text FROM pg_attribute a
                  WHERE a.attrelid = relation AND a.attgenerated = 'v' AND NOT a.attisdropped)]
           || ARRAY(SELECT a.attname::text FROM pg_index i
                    CROSS JOIN unnest(i.indkey::smallint[]) WITH ORDINALITY AS k (attnum, position)
                    JOIN pg_attribute a ON a.attrelid = relation AND a.attnum = k.attnum
                    WHERE i.indrelid = relation AND i.indisprimary ORDER BY k.position)
    FROM pg_class c WHERE c.oid = relation
$$;

-- What of a table's capture is missing, stale or too much: names of triggers; empty where all is well.
CREATE FUNCTION flux.capture_faults(relation oid) RETURNS text[]
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(array_agg(coalesce(w.name, g.tgname) ORDER BY coalesce(w.name, g.tgname)), '{}')
    FROM flux.wanted_triggers(relation) w
    FULL JOIN (SELECT t.tgname::text, t.tgfoid, t.tgargs, t.tgenabled FROM pg_trigger t JOIN pg_proc f ON f.oid = t.tgfoid
               WHERE t.tgrelid = relation AND f.pronamespace = 'flux'::regnamespace AND t.tgparentid = 0) g ON g.tgname = w.name
    WHERE w.name IS NULL OR g.tgname IS NULL OR g.tgenabled <> 'A' OR g.tgfoid <> w.function::regproc
       OR g.tgargs <> (SELECT string_agg(convert_to(a.argument, getdatabaseencoding()) || '\x00'::bytea, '' ORDER BY a.nth)
                       FROM unnest(flux.trigger_arguments(relation)) WITH ORDINALITY AS a (argument, nth))
$$;

-- Put capture on a table, or bring it up to date; a new one, or one that had a gap, begins with an epoch. Takes a SHARE ROW EXCLUSIVE lock where there is something to do.
-- True if something was done.
CREATE FUNCTION flux.capture_table(relation oid, reason text DEFAULT 'installed') RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    w record;
    present boolean;
    arguments text;
    leaf oid;
BEGIN
    IF flux.capture_faults(relation) = '{}' THEN
        RETURN false;
    END IF;
    EXECUTE format('LOCK TABLE ONLY %s IN SHARE ROW EXCLUSIVE MODE', relation::regclass);
    SELECT coalesce(bool_or(g.tgname = '~flux_truncate'), false)
           AND coalesce(bool_or(g.tgname = '!flux_capture') OR count(*) FILTER (WHERE g.tgname IN ('!flux_insert', '!flux_update', '!flux_delete')) = 3, false)
    INTO present FROM pg_trigger g WHERE g.tgrelid = relation AND g.tgenabled = 'A';
    PERFORM set_config('flux.installing', '1', true);
    FOR w IN SELECT t.tgname AS name FROM pg_trigger t JOIN pg_proc f ON f.oid = t.tgfoid
             WHERE t.tgrelid = relation AND f.pronamespace = 'flux'::regnamespace AND t.tgparentid = 0 AND NOT t.tgisinternal
    LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', w.name, relation::regclass);
    END LOOP;
    SELECT string_agg(quote_literal(a.argument), ', ' ORDER BY a.nth) INTO arguments
    FROM unnest(flux.trigger_arguments(relation)) WITH ORDINALITY AS a (argument, nth);
    FOR w IN SELECT * FROM flux.wanted_triggers(relation) LOOP
        EXECUTE format('CREATE TRIGGER %I %s EXECUTE FUNCTION %s(%s)', w.name, format(w.events, relation::regclass), w.function, arguments);
        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', relation::regclass, w.name);
    END LOOP;
    FOR leaf IN SELECT g.tgrelid FROM pg_trigger g WHERE g.tgname = '!flux_capture' AND g.tgenabled <> 'A'
                AND g.tgrelid IN (SELECT t.relid FROM pg_partition_tree(relation) t)
    LOOP
        EXECUTE format('ALTER TABLE ONLY %s ENABLE ALWAYS TRIGGER "!flux_capture"', leaf::regclass);
    END LOOP;
    IF NOT present THEN
        PERFORM flux.note_epoch(relation, reason);
    END IF;
    PERFORM set_config('flux.installing', '', true);
    RETURN true;
END $$;

-- Note an epoch where a table has become a partition, or is one no more: its rows came or went without firing triggers.
CREATE FUNCTION flux.note_membership(relation oid) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    was oid := (SELECT p.parent FROM flux.partitions p WHERE p.relation = note_membership.relation);
    becomes oid := (SELECT i.inhparent FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
                    WHERE i.inhrelid = note_membership.relation AND c.relispartition);
    filled boolean := false;
BEGIN
    IF was IS NOT DISTINCT FROM becomes THEN
        RETURN;
    END IF;
    DELETE FROM flux.partitions p WHERE p.relation = note_membership.relation;
    IF becomes IS NOT NULL THEN
        INSERT INTO flux.partitions VALUES (relation, becomes);
    END IF;
    EXECUTE format('SELECT EXISTS (SELECT FROM %s)', relation::regclass) INTO filled;
    IF filled AND was IS NOT NULL AND EXISTS (SELECT FROM pg_class c WHERE c.oid = was) THEN
        PERFORM flux.note_epoch(was, 'detached');
        PERFORM flux.note_epoch(relation, 'detached');
    END IF;
    IF filled AND becomes IS NOT NULL THEN
        PERFORM flux.note_epoch(becomes, 'attached');
    END IF;
END $$;

-- What functions (the role flux_app) may do in a schema of the user's: use all there is and will be, own nothing. Never in flux.
CREATE FUNCTION flux.grant_schema(schema_name name) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO flux_app', schema_name);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA %I TO flux_app', schema_name);
    EXECUTE format('GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA %I TO flux_app', schema_name);
    EXECUTE format('GRANT EXECUTE ON ALL ROUTINES IN SCHEMA %I TO flux_app', schema_name);
    EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA %I GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON TABLES TO flux_app', schema_name);
    EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA %I GRANT USAGE, SELECT ON SEQUENCES TO flux_app', schema_name);
    EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA %I GRANT EXECUTE ON ROUTINES TO flux_app', schema_name);
END $$;

-- Event triggers, where the role may have them ---------------------------------------------------------------------------

-- A DDL command has ended: capture follows it, and the schema is kept. A failure here is a warning, never the command's.
CREATE FUNCTION flux.on_ddl() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    c record;
    kept boolean;
BEGIN
    IF current_setting('flux.installing', true) = '1' THEN
        RETURN;
    END IF;
    SELECT count(*) > 0 AND bool_and(d.schema_name IS NOT DISTINCT FROM 'flux' OR d.schema_name LIKE 'pg\_temp%') INTO kept
    FROM pg_event_trigger_ddl_commands() d;
    IF kept THEN
        RETURN;
    END IF;
    FOR c IN
        SELECT t.relation,
               CASE WHEN d.command_tag IN ('CREATE TABLE AS', 'SELECT INTO') THEN 'create table as'
                    WHEN d.command_tag = 'CREATE TABLE' THEN 'created' ELSE 'installed' END AS reason,
               strpos(current_setting('flux.rewritten', true), ',' || t.relation || ',') > 0 AS rewritten
        FROM flux.user_tables t
        LEFT JOIN pg_event_trigger_ddl_commands() d ON d.classid = 'pg_class'::regclass AND d.objid = t.relation AND d.objsubid = 0
        WHERE t.kind <> 'f' AND t.extension IS NULL
        ORDER BY t.is_partition, t.relation
    LOOP
        BEGIN
            PERFORM flux.capture_table(c.relation, c.reason);
            PERFORM flux.note_membership(c.relation);
            IF c.rewritten THEN
                PERFORM flux.note_epoch(c.relation, 'rewrite');
            END IF;
        EXCEPTION WHEN OTHERS THEN
            RAISE WARNING 'flux: changes of % are not captured: %', c.relation::regclass, SQLERRM;
        END;
    END LOOP;
    PERFORM set_config('flux.rewritten', '', true);
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'flux_app') THEN
        PERFORM set_config('flux.installing', '1', true);
        FOR c IN SELECT DISTINCT coalesce(d.schema_name, btrim(d.object_identity, '"')) AS name FROM pg_event_trigger_ddl_commands() d
                 WHERE d.command_tag LIKE 'CREATE%' AND (d.object_type = 'schema' OR d.schema_name IN (SELECT u.nspname FROM flux.user_schemas u))
        LOOP
            BEGIN
                PERFORM flux.grant_schema(c.name);
            EXCEPTION WHEN OTHERS THEN
                RAISE WARNING 'flux: functions may not use what is in schema %: %', c.name, SQLERRM;
            END;
        END LOOP;
        PERFORM set_config('flux.installing', '', true);
    END IF;
    PERFORM flux.note_schema(TG_TAG);
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'flux: the schema change was not recorded: %', SQLERRM;
END $$;

-- A table is about to be rewritten, which fires no row triggers: remembered for flux.on_ddl, at whose time the new form is known.
CREATE FUNCTION flux.on_rewrite() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM set_config('flux.rewritten',
                       coalesce(nullif(current_setting('flux.rewritten', true), ''), ',') || pg_event_trigger_table_rewrite_oid() || ',', true);
END $$;

-- Tables and columns have gone, with what was in them.
CREATE FUNCTION flux.on_drop() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO flux.epochs (table_oid, schema_name, table_name, schema_hash, snapshot, xid, n, at, reason)
    SELECT d.objid, d.address_names[1], d.address_names[2], '', pg_current_snapshot(), pg_current_xact_id(),
           nextval('flux.mutation_order'), clock_timestamp(), CASE d.objsubid WHEN 0 THEN 'dropped' ELSE 'column dropped' END
    FROM pg_event_trigger_dropped_objects() d
    WHERE d.classid = 'pg_class'::regclass AND d.object_type IN ('table', 'table column') AND NOT d.is_temporary
      AND d.schema_name <> 'flux' AND (d.objsubid <> 0 AND d.original OR d.objsubid = 0);
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'flux: the drop was not recorded: %', SQLERRM;
END $$;
