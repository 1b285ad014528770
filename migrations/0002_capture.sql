-- Mutation capture: every row that changes is written to flux.mutations in the transaction that changed it.
--
-- What stands on a table
--   !flux_capture    AFTER INSERT OR UPDATE OR DELETE, per row, sorts first: one mutation. On a partitioned table it stands on
--                    the root, and Postgres clones it to all leaves, so that writes straight to a leaf are captured too.
--   !flux_announce   AFTER INSERT OR UPDATE OR DELETE, per statement: tells Flux's session what the statement did (below).
--   ~flux_truncate   BEFORE TRUNCATE, sorts last: one TRUNCATE mutation per row that is about to go.
-- All are ENABLE ALWAYS. flux.install_table() places them and gives them their arguments: flags, columns to leave out (virtual
-- generated ones, which a trigger can't see), then the key's columns.
--
-- Order numbers (flux.mutations.n) grow by 32. Played backwards by n, per key, a table's mutations give what was before. A row's trigger
-- runs after the whole statement, so a nested trigger may have written the row again and been numbered already; such a
-- mutation is placed below its successor, in the gap of 31 numbers (flux.place).
--
-- Images are to_jsonb of the row under UTC and lossless floats, whatever the session has set. A column that to_jsonb refuses
-- (\u0000 in json, 256 MB) is kept as {"$text": "..."}; a capture never makes the user's statement fail.
--
-- Context: the session setting flux.ctx holds `<request_id>|<day>`. It decides which execution a mutation belongs to. Any SQL can
-- SET it, so a function could name another execution; it cannot do so unseen: announcements carry the request_id ("r")
-- to the session that knows its own, a mutation's xid is also recorded with the host call that Flux itself made, and rows written
-- by flux_app without a context show as origin `outside` with actor `flux_app`. Nothing a function can do stops its
-- rows from being captured: it owns neither tables nor triggers.
--
-- Announcements, only where flux.ctx is set: RAISE INFO 'flux:' and JSON
--   {"r": request_id, "a": [[n, xid, schema, table, op, key, before, after, at_epoch_us], ...], "cut": c, "lo": n, "hi": n, "snap": s}
-- once per statement that changed rows, nested triggers' rows included (a nested statement announces what is pending, so one client
-- statement may announce several times: take the least lo, the greatest hi, add up cut). At most 32 rows and 64 KiB per client
-- statement; `cut` counts the rest. "snap" is there under READ COMMITTED. flux.enter() announces {"begin": {"snap": s}}.

ALTER SEQUENCE flux.mutation_order INCREMENT BY 32;
COMMENT ON COLUMN flux.mutations.key IS 'The row''s primary key before the change (of an INSERT: after it); null where the table has none.';

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
    reason      text NOT NULL
);
CREATE INDEX epochs_table ON flux.epochs (schema_name, table_name, n);
COMMENT ON TABLE flux.epochs IS 'Points that a table''s mutations can''t be read across: its capture began, or it changed without firing triggers.';
COMMENT ON COLUMN flux.epochs.n IS 'Mutations of the table with a smaller n came before.';
COMMENT ON COLUMN flux.epochs.reason IS 'installed, created, create table as, rewrite, attached, detached, column dropped, dropped.';

CREATE TABLE flux.schema_versions (
    hash       text COLLATE "C" PRIMARY KEY,
    definition jsonb NOT NULL,
    at         timestamptz NOT NULL,
    snapshot   pg_snapshot NOT NULL,
    actor      text NOT NULL
);
COMMENT ON TABLE flux.schema_versions IS 'The user''s schema as it was: tables, indexes, constraints, triggers, views, types, functions, sequences; each state once, with when it was first seen.';

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

CREATE TABLE flux.schema_files (
    name       text COLLATE "C" PRIMARY KEY,
    sha256     text COLLATE "C" NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    content    text NOT NULL
);
COMMENT ON TABLE flux.schema_files IS 'The project''s schema/*.sql as they were applied.';

CREATE TABLE flux.ticks (
    at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    node     text NOT NULL,
    snapshot pg_snapshot NOT NULL DEFAULT pg_current_snapshot(),
    n        bigint NOT NULL
);
CREATE INDEX ticks_at ON flux.ticks (at);
COMMENT ON TABLE flux.ticks IS 'What was committed when: one row per node and 100 ms of traffic.';

-- Partitions of the record's tables for every day from `first` to `last`, made beside the parents and attached: an attachment waits
-- for no reader or writer of the parent, and none waits for it. Safe from several sessions at once.
CREATE OR REPLACE FUNCTION flux.ensure_partitions(first date, last date) RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    parent text;
    d date;
    made integer := 0;
BEGIN
    FOR d IN SELECT generate_series(first::timestamp, last::timestamp, '1 day')::date LOOP
        FOREACH parent IN ARRAY ARRAY['executions', 'host_calls', 'logs', 'spans', 'mutations'] LOOP
            made := made + flux.ensure_partition(parent, d)::integer;
        END LOOP;
    END LOOP;
    RETURN made;
END $$;

-- One partition of one table. True if it was made here. Two sessions that make the same one: the second waits for the first to commit.
CREATE FUNCTION flux.ensure_partition(parent text, d date) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    child text := parent || to_char(d, '_YYYYMMDD');
BEGIN
    IF to_regclass(format('flux.%I', child)) IS NOT NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE flux.%I (LIKE flux.%I INCLUDING ALL)', child, parent);
    EXECUTE format('ALTER TABLE flux.%I ATTACH PARTITION flux.%I FOR VALUES FROM (%L) TO (%L)', parent, child, d, d + 1);
    RETURN true;
EXCEPTION WHEN duplicate_table OR unique_violation THEN
    RETURN false;
END $$;

-- The cluster's identity as a constant (reading it takes a file access); flux.adopt_cluster() renews it after a restore elsewhere.
CREATE FUNCTION flux.adopt_cluster() RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    id bigint := (SELECT system_identifier FROM pg_control_system());
BEGIN
    IF to_regprocedure('flux.system_id()') IS NOT NULL THEN
        IF flux.system_id() = id THEN
            RETURN id;
        END IF;
    END IF;
    EXECUTE format('CREATE OR REPLACE FUNCTION flux.system_id() RETURNS bigint LANGUAGE sql IMMUTABLE AS %L', format('SELECT %L::bigint', id));
    RETURN id;
END $$;
SELECT flux.adopt_cluster();

-- Images -----------------------------------------------------------------------------------------------------------

-- A row's image, column by column, for a row that to_jsonb refuses as a whole: what can't be converted becomes {"$text": its text}, and
-- what jsonb can't hold at all (256 MB) its beginning, length and md5. Never fails.
CREATE FUNCTION flux.careful_image(image record, relation oid) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    built jsonb := '{}';
    name text;
    one jsonb;
    shown text;
BEGIN
    FOR name IN SELECT attname FROM pg_attribute WHERE attrelid = relation AND attnum > 0 AND NOT attisdropped ORDER BY attnum LOOP
        BEGIN
            EXECUTE format('SELECT to_jsonb(($1).%I)', name) INTO one USING image;
            built := built || jsonb_build_object(name, one);
        EXCEPTION WHEN OTHERS THEN
            BEGIN
                EXECUTE format('SELECT ($1).%I::text', name) INTO shown USING image;
                built := built || jsonb_build_object(name, jsonb_build_object('$text', shown));
            EXCEPTION WHEN OTHERS THEN
                built := built || jsonb_build_object(name, jsonb_build_object('$text', left(shown, 1048576),
                                                                              '$length', length(shown), '$md5', md5(shown)));
            END;
        END;
    END LOOP;
    RETURN built;
END $$;

-- The key of an image. One too long for an index entry becomes its md5; the images have it whole.
CREATE FUNCTION flux.key_of(image jsonb, columns text[]) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    key jsonb;
BEGIN
    IF image IS NULL OR columns = '{}' THEN
        RETURN NULL;
    END IF;
    SELECT jsonb_object_agg(name, image -> name) INTO key FROM unnest(columns) AS name;
    IF octet_length(key::text) > 1500 THEN
        RETURN jsonb_build_object('$md5', md5(key::text));
    END IF;
    RETURN key;
END $$;

-- Capture -----------------------------------------------------------------------------------------------------------

-- Whether a flux.ctx can be an execution's: well formed, its day near today.
CREATE FUNCTION flux.context_is_sound(ctx text) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    today date := (now() AT TIME ZONE 'UTC')::date;
BEGIN
    RETURN ctx ~ '^[0-9a-f]{32}\|\d{4}-\d\d-\d\d$' AND right(ctx, 10)::date BETWEEN today - 31 AND today + 1;
EXCEPTION WHEN OTHERS THEN
    RETURN false;
END $$;

-- A partition's root, by name; a table that is none is its own.
CREATE FUNCTION flux.root_of(relation oid, OUT schema_name name, OUT table_name name)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid = coalesce(pg_partition_root(relation::regclass)::oid, relation)
$$;

-- Give settings that images depend on their plain values; the old ones are returned, to be put back by flux.restore_settings.
CREATE FUNCTION flux.plain_settings() RETURNS text[]
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    plain text[] := ARRAY['TimeZone', 'UTC', 'extra_float_digits', '1', 'IntervalStyle', 'postgres', 'bytea_output', 'hex',
                          'DateStyle', 'ISO', 'xmlbinary', 'base64'];
    former text[] := '{}';
BEGIN
    FOR i IN 1 .. array_length(plain, 1) BY 2 LOOP
        former := former || plain[i] || current_setting(plain[i]);
        PERFORM set_config(plain[i], plain[i + 1], true);
    END LOOP;
    RETURN former;
END $$;
CREATE FUNCTION flux.restore_settings(former text[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    FOR i IN 1 .. array_length(former, 1) BY 2 LOOP
        PERFORM set_config(former[i], former[i + 1], true);
    END LOOP;
END $$;

-- Where a mutation belongs whose row was written again, by a nested statement, before its own trigger ran: below the nested one's number.
-- Null: above all, the usual place. `was` and `becomes` are images; for a DELETE `becomes` is null.
CREATE FUNCTION flux.place(request text, on_day date, in_xid xid8, in_schema text, in_table text, of_key jsonb, was jsonb,
                           becomes jsonb) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    place bigint;
BEGIN
    SELECT later.n - 1 INTO place
    FROM (SELECT m.n, m.before, lag(m.after) OVER (ORDER BY m.n) AS previous, row_number() OVER (ORDER BY m.n) AS nth
          FROM flux.mutations m
          WHERE m.request_id = request AND m.day = on_day AND m.xid = in_xid AND m.schema_name = in_schema
            AND m.table_name = in_table
            AND CASE WHEN of_key IS NULL THEN m.before = becomes OR m.after = was
                     ELSE m.key = of_key END) later
    WHERE later.before IS NOT DISTINCT FROM becomes AND (later.nth = 1 OR later.previous IS NOT DISTINCT FROM was OR NOT was @> of_key)
    ORDER BY later.n DESC LIMIT 1;
    WHILE EXISTS (SELECT 1 FROM flux.mutations m WHERE m.request_id = request AND m.day = on_day AND m.n = place) LOOP
        place := place - 1;
    END LOOP;
    RETURN place;
END $$;

CREATE FUNCTION flux.capture() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    ctx text := nullif(current_setting('flux.ctx', true), '');
    request text;
    on_day date;
    tally bigint[];
    was jsonb;
    becomes jsonb;
    of_key jsonb;
    in_xid xid8 := pg_current_xact_id();
    in_schema text := TG_TABLE_SCHEMA;
    in_table text := TG_TABLE_NAME;
    flags text := TG_ARGV[0];
    place bigint;
    moment timestamptz := clock_timestamp();
    line text;
    former text[];
BEGIN
    IF flags <> '' THEN
        IF strpos(flags, 's') > 0 AND (current_setting('TimeZone') NOT IN ('UTC', 'Etc/UTC', 'GMT')
                OR current_setting('extra_float_digits') NOT IN ('1', '2', '3')
                OR current_setting('IntervalStyle') <> 'postgres' OR current_setting('bytea_output') <> 'hex'
                OR left(current_setting('DateStyle'), 3) <> 'ISO' OR current_setting('xmlbinary') <> 'base64') THEN
            former := flux.plain_settings();
        END IF;
        IF strpos(flags, 'p') > 0 THEN
            SELECT r.schema_name, r.table_name INTO in_schema, in_table FROM flux.root_of(TG_RELID) r;
        END IF;
    END IF;
    BEGIN
        IF TG_OP <> 'INSERT' THEN
            was := to_jsonb(OLD);
        END IF;
        IF TG_OP <> 'DELETE' THEN
            becomes := to_jsonb(NEW);
        END IF;
        IF ctx ~ '^[0-9a-f]{32}\|\d{4}-\d\d-\d\d$' THEN
            on_day := right(ctx, 10)::date;
            request := left(ctx, 32);
            tally := nullif(current_setting('flux.tally', true), '')::bigint[];
        END IF;
    EXCEPTION WHEN OTHERS THEN
        was := CASE WHEN TG_OP <> 'INSERT' THEN flux.careful_image(OLD, TG_RELID) END;
        becomes := CASE WHEN TG_OP <> 'DELETE' THEN flux.careful_image(NEW, TG_RELID) END;
        request := CASE WHEN flux.context_is_sound(ctx) THEN left(ctx, 32) END;
        on_day := CASE WHEN request IS NOT NULL THEN right(ctx, 10)::date END;
    END;
    IF former IS NOT NULL THEN
        PERFORM flux.restore_settings(former);
    END IF;
    IF TG_ARGV[1] <> '' THEN
        was := was - TG_ARGV[1]::text[];
        becomes := becomes - TG_ARGV[1]::text[];
    END IF;

    IF TG_NARGS = 3 THEN
        of_key := jsonb_build_object(TG_ARGV[2], coalesce(was, becomes) -> TG_ARGV[2]);
    ELSIF TG_NARGS > 3 THEN
        of_key := flux.key_of(coalesce(was, becomes), TG_ARGV[2:]);
    END IF;
    IF pg_column_size(of_key) > 1000 THEN
        of_key := flux.key_of(coalesce(was, becomes), TG_ARGV[2:]);
    END IF;

    IF request IS NULL THEN
        request := md5(flux.system_id() || '/' || current_database() || '/' || in_xid);
        on_day := (now() AT TIME ZONE 'UTC')::date;
        ctx := NULL;
    END IF;
    IF to_regclass('flux.mutations_' || to_char(on_day, 'YYYYMMDD')) IS NULL THEN
        IF ctx IS NOT NULL AND NOT flux.context_is_sound(ctx) THEN
            request := md5(flux.system_id() || '/' || current_database() || '/' || in_xid);
            on_day := (now() AT TIME ZONE 'UTC')::date;
            ctx := NULL;
        END IF;
        PERFORM flux.ensure_partition('mutations', on_day);
    END IF;

    IF TG_OP <> 'DELETE' THEN
        IF NEW.xmax <> '0' THEN
            place := flux.overtaken(TG_RELID, NEW.ctid, request, on_day, in_xid, in_schema, in_table,
                                    flux.key_of(becomes, TG_ARGV[2:]), was, becomes);
        END IF;
    ELSIF current_setting('flux.nested', true) = in_xid::text THEN
        place := flux.place(request, on_day, in_xid, in_schema, in_table, of_key, was, NULL);
    END IF;
    IF pg_trigger_depth() > 1 THEN
        PERFORM set_config('flux.nested', in_xid::text, true);
    END IF;
    IF place IS NULL THEN
        place := nextval('flux.mutation_order');
    END IF;

    INSERT INTO flux.mutations (request_id, day, n, xid, system_id, schema_name, table_name, op, key, before, after, at, origin,
                                actor, application_name)
    VALUES (request, on_day, place, in_xid, flux.system_id(), in_schema, in_table, TG_OP, of_key, was, becomes, moment,
            CASE WHEN ctx IS NULL THEN 'outside' ELSE 'flux' END,
            CASE current_setting('role') WHEN 'none' THEN session_user::text ELSE current_setting('role') END,
            nullif(current_setting('application_name'), ''));

    IF ctx IS NOT NULL AND (tally IS NULL OR tally[6] = 0 OR tally[1] <> (date_part('epoch', statement_timestamp()) * 1000000)::bigint) THEN
        PERFORM flux.keep_announcement(tally, place, in_xid, in_schema, in_table, TG_OP, of_key, was, becomes, moment);
    END IF;
    RETURN NULL;
END $$;

-- Whether the row version at `place` is still the row; then null. Else (a nested statement wrote it again) where its mutation belongs.
CREATE FUNCTION flux.overtaken(relation oid, version tid, request text, on_day date, in_xid xid8, in_schema text, in_table text,
                               of_key jsonb, was jsonb, becomes jsonb) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    stands boolean;
BEGIN
    EXECUTE format('SELECT EXISTS (SELECT FROM ONLY %s WHERE ctid = $1)', relation::regclass) INTO stands USING version;
    IF stands THEN
        RETURN NULL;
    END IF;
    RETURN flux.place(request, on_day, in_xid, in_schema, in_table, of_key, was, becomes);
END $$;

-- Add a row to what flux.announce() will say. flux.tally: {statement, rows, bytes, least n, greatest n, full}; flux.rows: the JSON rows.
CREATE FUNCTION flux.keep_announcement(tally bigint[], n bigint, in_xid xid8, in_schema text, in_table text, op text, of_key jsonb,
                                       was jsonb, becomes jsonb, moment timestamptz) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    statement bigint := (date_part('epoch', statement_timestamp()) * 1000000)::bigint;
    rows text := '';
    line text;
BEGIN
    IF tally[1] = statement AND array_length(tally, 1) = 6 THEN
        rows := current_setting('flux.rows', true);
    ELSE
        tally := ARRAY[statement, 0, 0, n, n, 0];
    END IF;
    IF tally[2] < 32 THEN
        line := json_build_array(n, in_xid::text::bigint, in_schema, in_table, op, of_key, was, becomes,
                                 (date_part('epoch', moment) * 1000000)::bigint);
    END IF;
    IF line IS NULL OR tally[3] + octet_length(line) > 65536 THEN
        tally[6] := 1;
    ELSE
        tally := ARRAY[statement, tally[2] + 1, tally[3] + octet_length(line), least(tally[4], n), greatest(tally[5], n), 0];
        PERFORM set_config('flux.rows', CASE rows WHEN '' THEN line ELSE rows || ',' || line END, true);
    END IF;
    PERFORM set_config('flux.tally', tally::text, true);
END $$;

CREATE FUNCTION flux.announce() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    ctx text := current_setting('flux.ctx', true);
    tally bigint[];
    rows text;
    left_out bigint := 0;
    greatest_n bigint;
BEGIN
    IF ctx IS NULL OR ctx = '' THEN
        RETURN NULL;
    END IF;
    BEGIN
        tally := nullif(current_setting('flux.tally', true), '')::bigint[];
        rows := current_setting('flux.rows', true);
        IF tally[6] = 1 THEN
            SELECT count(*), max(m.n) INTO left_out, greatest_n FROM flux.mutations m
            WHERE m.request_id = left(ctx, 32) AND m.day = right(ctx, 10)::date AND m.n > tally[5]
              AND m.xid = pg_current_xact_id();
        END IF;
        IF tally IS NULL OR rows = '' AND left_out = 0 THEN
            RETURN NULL;
        END IF;
        RAISE INFO 'flux:{"r":"%","a":[%],"cut":%,"lo":%,"hi":% %', left(ctx, 32), rows, left_out, tally[4],
            coalesce(greatest_n, tally[5]),
            CASE current_setting('transaction_isolation') WHEN 'read committed' THEN ',"snap":"' || pg_current_snapshot() || '"}'
            ELSE '}' END;
        PERFORM set_config('flux.rows', '', true);
        IF left_out > 0 THEN
            tally[5] := greatest_n;
            tally[4] := greatest_n;
            PERFORM set_config('flux.tally', tally::text, true);
        END IF;
    EXCEPTION WHEN OTHERS THEN
        PERFORM set_config('flux.tally', '', true);
    END;
    RETURN NULL;
END $$;

-- Called in the simple query that begins a transaction: `BEGIN; SET LOCAL flux.ctx = '...'; SELECT flux.enter()`.
CREATE FUNCTION flux.enter() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF current_setting('transaction_isolation') = 'read committed' THEN
        RAISE INFO 'flux:{"begin":{"snap":"%"}}', pg_current_snapshot();
    END IF;
END $$;
