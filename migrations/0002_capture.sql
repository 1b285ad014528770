-- Mutation capture: every row that changes is written to flux.mutations in the transaction that changed it.
--
-- What stands on a table
--   !flux_insert, !flux_update, !flux_delete   AFTER, per statement, with transition tables: all of the statement's rows at once. Only
--                    where nothing of the user's can run in mid-statement and write the same rows again (no triggers on the table or on
--                    those its foreign keys cascade to, no cascade back to itself), and not on partitioned tables.
--   !flux_capture    everywhere else: AFTER, per row, sorts first. On a partitioned table it stands on the root, and
--                    Postgres clones it to all leaves, so that writes straight to a leaf are captured too.
--   !flux_announce   beside it, per statement: tells Flux's session what the statement did (below).
--   ~flux_truncate   BEFORE TRUNCATE, sorts last: one TRUNCATE mutation per row that is about to go.
-- Their functions exist twice: the ones called ..._plain set less, for tables whose column types allow it (flux.needs_settings).
-- All are ENABLE ALWAYS. flux.capture_table() places them. Their arguments: 'p' for a partitioned table or '', columns to leave out
-- (virtual generated ones, which a trigger can't see) as an array, then the key's columns.
--
-- Order numbers (flux.mutations.n) grow by 32. Played backwards by n, a table's mutations give what was before. A row's trigger runs
-- after the whole statement, so a nested trigger may have written the row again and been numbered already; such a
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
COMMENT ON COLUMN flux.epochs.reason IS 'installed, created, create table as, rewrite, attached, detached, column dropped, dropped, truncate not captured.';

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

-- A value that to_jsonb may refuse: what can't be converted becomes {"$text": its text}, and what is longer than `most` characters (jsonb holds
-- 256 MB) its beginning, length and md5. Never fails.
CREATE FUNCTION flux.careful_value(value anyelement, most integer) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    shown text;
BEGIN
    BEGIN
        shown := value::text;
        IF octet_length(shown) <= most OR shown IS NULL THEN
            RETURN to_jsonb(value);
        END IF;
    EXCEPTION WHEN OTHERS THEN
        RETURN jsonb_build_object('$text', shown);
    END;
    RETURN jsonb_build_object('$text', left(shown, 1048576), '$length', length(shown), '$md5', md5(shown));
END $$;

-- SQL that makes the image of a table's row `r` column by column.
CREATE FUNCTION flux.careful_image(relation oid) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT format('(SELECT jsonb_object_agg(v.name, v.image) FROM (VALUES %s) AS v (name, image))',
                  string_agg(format('(%L, flux.careful_value(r.%I, %s))', attname, attname, 200000000 / columns), ', ' ORDER BY attnum))
    FROM (SELECT attname, attnum, count(*) OVER () AS columns FROM pg_attribute
          WHERE attrelid = relation AND attnum > 0 AND NOT attisdropped) a
$$;

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

-- The execution that a context names: null and null unless it is well formed and its day has or may have a partition; where `ctx` is null or
-- unsound, the outside transaction's own. Makes a missing partition: an outside write after a month's silence must not fail. Leaves the day
-- in the session's flux.day, by which captures know that they need not ask again: it is sound and its partition is there.
CREATE FUNCTION flux.home_of(ctx text, OUT request text, OUT on_day date, OUT origin text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF flux.context_is_sound(ctx) THEN
        request := left(ctx, 32);
        on_day := right(ctx, 10)::date;
        origin := 'flux';
    ELSE
        request := md5(flux.system_id() || '/' || current_database() || '/' || pg_current_xact_id());
        on_day := (now() AT TIME ZONE 'UTC')::date;
        origin := 'outside';
    END IF;
    PERFORM flux.ensure_partition('mutations', on_day);
    IF origin = 'flux' THEN
        PERFORM set_config('flux.day', to_char(on_day, '|YYYY-MM-DD'), false);
    END IF;
END $$;

-- Where the mutation of a row belongs that a nested statement wrote again before the row's own trigger ran: right below that one's
-- number. Null: at the end, the usual place. `stale`: the row version may have been replaced. For a DELETE, `becomes` and `version` are null.
CREATE FUNCTION flux.place(relation oid, stale boolean, version tid, request text, on_day date, in_schema text, in_table text,
                           key_columns text[], was jsonb, becomes jsonb) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    stands boolean;
    of_key jsonb := flux.key_of(coalesce(becomes, was), key_columns);
    place bigint;
    fits_at_end boolean;
BEGIN
    IF pg_trigger_depth() > 1 THEN
        PERFORM set_config('flux.nested', pg_current_xact_id()::text, true);
    END IF;
    IF becomes IS NOT NULL THEN
        IF NOT stale THEN
            RETURN NULL;
        END IF;
        EXECUTE format('SELECT EXISTS (SELECT FROM ONLY %s WHERE ctid = $1)', relation::regclass) INTO stands USING version;
        IF stands THEN
            RETURN NULL;
        END IF;
    ELSIF current_setting('flux.nested', true) IS DISTINCT FROM pg_current_xact_id()::text THEN
        RETURN NULL;
    END IF;
    WITH later AS (
        SELECT m.n, m.before, m.after, lag(m.after) OVER (ORDER BY m.n) AS previous, row_number() OVER (ORDER BY m.n) AS nth
        FROM flux.mutations m
        WHERE m.request_id = request AND m.day = on_day AND m.xid = pg_current_xact_id() AND m.schema_name = in_schema
          AND m.table_name = in_table
          AND CASE WHEN of_key IS NULL THEN m.before = becomes OR m.after = was ELSE m.key = of_key END)
    SELECT (SELECT l.n - 1 FROM later l
            WHERE l.before IS NOT DISTINCT FROM becomes
              AND (l.nth = 1 OR l.previous IS NOT DISTINCT FROM was OR of_key <> flux.key_of(was, key_columns))
            ORDER BY l.n DESC LIMIT 1),
           (SELECT l.after IS NOT DISTINCT FROM was FROM later l ORDER BY l.n DESC LIMIT 1)
    INTO place, fits_at_end;
    IF becomes IS NULL AND fits_at_end THEN
        RETURN NULL;
    END IF;
    WHILE EXISTS (SELECT FROM flux.mutations m WHERE m.request_id = request AND m.day = on_day AND m.n = place) LOOP
        place := place - 1;
    END LOOP;
    RETURN place;
END $$;

-- The JSON of one announced row.
CREATE FUNCTION flux.announced(n bigint, in_schema text, in_table text, op text, of_key jsonb, was jsonb, becomes jsonb)
RETURNS text LANGUAGE sql STABLE AS $$
    SELECT json_build_array(n, pg_current_xact_id()::text::bigint, in_schema, in_table, op, of_key, was, becomes,
                            (date_part('epoch', clock_timestamp()) * 1000000)::bigint)::text
$$;

-- Of the rows that a client statement may still announce: {its time in µs, rows, bytes, least n, greatest n, 1 if full}, as kept in flux.tally.
CREATE FUNCTION flux.tally() RETURNS bigint[]
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    tally bigint[] := nullif(current_setting('flux.tally', true), '')::bigint[];
    statement bigint := (date_part('epoch', statement_timestamp()) * 1000000)::bigint;
BEGIN
    IF tally[1] = statement AND array_length(tally, 1) = 6 THEN
        RETURN tally;
    END IF;
    RETURN ARRAY[statement, 0, 0, NULL, NULL, 0];
EXCEPTION WHEN OTHERS THEN
    RETURN ARRAY[statement, 0, 0, NULL, NULL, 0];
END $$;

-- Capture per statement. Few expressions, each doing much: PL/pgSQL prepares every one anew in each transaction, and that is most of what a
-- one-row statement pays. So there is a straight way for one row, and one for all else: more rows, an image that to_jsonb refuses, columns to leave
-- out, a context that is unsound. The SET clauses make images the same whatever the session has set. Images are made
-- first, where a failure costs a subtransaction without writes.
CREATE FUNCTION flux.capture_statement() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET "TimeZone" = 'UTC' SET "DateStyle" = 'ISO' SET "IntervalStyle" = 'postgres'
SET extra_float_digits = 1 SET bytea_output = 'hex' SET xmlbinary = 'base64' AS $$
DECLARE
    ctx text := nullif(current_setting('flux.ctx', true), '');
    request text;
    on_day date;
    old_image jsonb;
    new_image jsonb;
    place bigint;
    source text := 'flux';
    numbers bigint[];
    was jsonb[];
    becomes jsonb[];
    one boolean := true;
    careful boolean := false;
    many bigint;
    first_n bigint;
    heard text;
    stamp text;
    tally bigint[];
    said text;
    rest text;
    said_rows bigint := 1;
    said_bytes bigint;
BEGIN
    BEGIN
        IF TG_OP = 'INSERT' THEN
            SELECT to_jsonb(r.*) INTO STRICT new_image FROM flux_new r;
        ELSIF TG_OP = 'UPDATE' THEN
            SELECT to_jsonb(o.*), to_jsonb(r.*) INTO STRICT old_image, new_image FROM flux_old o, flux_new r;
        ELSE
            SELECT to_jsonb(o.*) INTO STRICT old_image FROM flux_old o;
        END IF;
    EXCEPTION
        WHEN no_data_found THEN
            RETURN NULL;
        WHEN OTHERS THEN
            one := false;
    END;
    IF right(ctx, 11) = current_setting('flux.day', true) AND length(ctx) = 43 AND translate(left(ctx, 32), '0123456789abcdef', '') = '' THEN
        request := left(ctx, 32);
        on_day := right(ctx, 10);
    ELSE
        SELECT h.request, h.on_day, h.origin INTO request, on_day, source FROM flux.home_of(ctx) h;
    END IF;
    IF one AND TG_ARGV[1] = '{}' THEN
        INSERT INTO flux.mutations AS m (request_id, day, n, xid, system_id, schema_name, table_name, op, key, before, after, at, origin,
                                         actor, application_name)
        VALUES (request, on_day, nextval('flux.mutation_order'), pg_current_xact_id(), flux.system_id(), TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_OP,
                CASE WHEN TG_NARGS = 2 THEN NULL
                     WHEN TG_NARGS = 3 AND octet_length(coalesce(old_image, new_image) ->> TG_ARGV[2]) <= 1000
                     THEN jsonb_build_object(TG_ARGV[2], coalesce(old_image, new_image) -> TG_ARGV[2])
                     ELSE flux.key_of(coalesce(old_image, new_image), TG_ARGV[2:]) END,
                old_image, new_image, clock_timestamp(), source,
                coalesce(nullif(current_setting('role'), 'none'), session_user),
                nullif(current_setting('application_name'), ''))
        RETURNING m.n,
            CASE WHEN source = 'flux' THEN json_build_array(m.n, m.xid::text::bigint, m.schema_name, m.table_name, m.op, m.key,
                m.before, m.after, (date_part('epoch', m.at) * 1000000)::bigint)::text END,
            '{' || (date_part('epoch', statement_timestamp()) * 1000000)::bigint || ',',
            m.n || ',"hi":' || m.n || CASE current_setting('transaction_isolation')
                WHEN 'read committed' THEN ',"snap":"' || pg_current_snapshot() || '"}' ELSE '}' END
        INTO place, said, stamp, rest;
        IF said IS NOT NULL THEN
            said_bytes := octet_length(said);
            heard := current_setting('flux.tally', true);
            IF said_bytes > 65536 OR starts_with(heard, stamp) THEN
                tally := flux.tally();
                IF tally[2] >= 32 OR tally[3] + said_bytes > 65536 THEN
                    said := '';
                    said_rows := 0;
                    said_bytes := 0;
                END IF;
                heard := set_config('flux.tally', ARRAY[tally[1], tally[2] + said_rows, tally[3] + said_bytes, tally[4], tally[5], tally[6]]::text, true);
            ELSE
                heard := set_config('flux.tally', stamp || '1,' || said_bytes || ',NULL,NULL,0}', true);
            END IF;
            RAISE INFO 'flux:{"r":"%","a":[%],"cut":%,"lo":%', request, said, 1 - said_rows, rest;
        END IF;
        IF pg_trigger_depth() > 1 THEN
            PERFORM set_config('flux.nested', pg_current_xact_id()::text, true);
        END IF;
        RETURN NULL;
    END IF;

    BEGIN
        IF TG_OP = 'INSERT' THEN
            SELECT array_agg(nextval('flux.mutation_order')), array_agg(to_jsonb(r.*)) INTO numbers, becomes
            FROM (SELECT * FROM flux_new LIMIT 20001) r;
        ELSIF TG_OP = 'DELETE' THEN
            SELECT array_agg(nextval('flux.mutation_order')), array_agg(to_jsonb(r.*)) INTO numbers, was
            FROM (SELECT * FROM flux_old LIMIT 20001) r;
        ELSE
            SELECT array_agg(nextval('flux.mutation_order')), array_agg(to_jsonb(r.*)),
                   (SELECT array_agg(to_jsonb(r.*)) FROM (SELECT * FROM flux_new LIMIT 20001) r)
            INTO numbers, was, becomes
            FROM (SELECT * FROM flux_old LIMIT 20001) r;
        END IF;
    EXCEPTION WHEN OTHERS THEN
        careful := true;
    END;
    many := cardinality(numbers);
    IF careful OR many > 20000 THEN
        first_n := nextval('flux.mutation_order');
        EXECUTE flux.insertion(CASE TG_OP
            WHEN 'INSERT' THEN 'SELECT NULL::jsonb, image FROM (SELECT %1$s AS image FROM flux_new r) a'
            WHEN 'DELETE' THEN 'SELECT image, NULL::jsonb FROM (SELECT %1$s AS image FROM flux_old r) a'
            ELSE 'SELECT a.image, b.image FROM (SELECT row_number() OVER () AS nth, %1$s AS image FROM flux_old r) a
                  FULL JOIN (SELECT row_number() OVER () AS nth, %1$s AS image FROM flux_new r) b ON a.nth = b.nth' END,
            CASE WHEN careful THEN flux.careful_image(TG_RELID) ELSE 'to_jsonb(r.*)' END)
        USING request, on_day, source, TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_OP, TG_ARGV[1]::text[], coalesce(TG_ARGV[2:], '{}');
        GET DIAGNOSTICS many = ROW_COUNT;
        IF many = 0 THEN
            RETURN NULL;
        END IF;
        SELECT array_agg(i.n), array_agg(i.before), array_agg(i.after) INTO numbers, was, becomes
        FROM (SELECT m.n, m.before, m.after FROM flux.mutations m
              WHERE m.request_id = request AND m.day = on_day AND m.n > first_n AND m.xid = pg_current_xact_id()
              ORDER BY m.n LIMIT 32) i;
        IF many > 32 THEN
            numbers[33] := currval('flux.mutation_order');
        END IF;
    ELSE
        IF TG_ARGV[1] <> '{}' THEN
            was := ARRAY(SELECT i - TG_ARGV[1]::text[] FROM unnest(was) i);
            becomes := ARRAY(SELECT i - TG_ARGV[1]::text[] FROM unnest(becomes) i);
        END IF;
        INSERT INTO flux.mutations (request_id, day, n, xid, system_id, schema_name, table_name, op, key, before, after, at, origin,
                                    actor, application_name)
        SELECT request, on_day, i.n, pg_current_xact_id(), flux.system_id(), TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_OP,
               CASE WHEN TG_NARGS = 2 THEN NULL
                    WHEN TG_NARGS = 3 AND octet_length(coalesce(i.was, i.becomes) ->> TG_ARGV[2]) <= 1000
                    THEN jsonb_build_object(TG_ARGV[2], coalesce(i.was, i.becomes) -> TG_ARGV[2])
                    ELSE flux.key_of(coalesce(i.was, i.becomes), TG_ARGV[2:]) END,
               i.was, i.becomes, clock_timestamp(), source,
               CASE current_setting('role') WHEN 'none' THEN session_user::text ELSE current_setting('role') END,
               nullif(current_setting('application_name'), '')
        FROM unnest(numbers, was, becomes) AS i (n, was, becomes);
    END IF;
    IF pg_trigger_depth() > 1 THEN
        PERFORM set_config('flux.nested', pg_current_xact_id()::text, true);
    END IF;

    IF source = 'flux' THEN
        IF current_setting('flux.tally', true) LIKE '{' || (date_part('epoch', statement_timestamp()) * 1000000)::bigint || ',%' THEN
            tally := flux.tally();
        ELSE
            tally := ARRAY[(date_part('epoch', statement_timestamp()) * 1000000)::bigint, 0, 0, NULL, NULL, 0];
        END IF;
        SELECT string_agg(line, ',' ORDER BY n), count(*), max(total) INTO said, said_rows, said_bytes
        FROM (SELECT n, line, sum(octet_length(line)) OVER (ORDER BY n) AS total
              FROM (SELECT i.n, flux.announced(i.n, TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_OP,
                                               flux.key_of(coalesce(i.was, i.becomes), TG_ARGV[2:]), i.was, i.becomes) AS line
                    FROM unnest(numbers[:32], was[:32], becomes[:32]) AS i (n, was, becomes)
                    LIMIT 32 - tally[2]) AS candidates) AS counted
        WHERE total + tally[3] <= 65536;
        RAISE INFO 'flux:{"r":"%","a":[%],"cut":%,"lo":%,"hi":% %', request, coalesce(said, ''), many - said_rows, numbers[1],
            numbers[cardinality(numbers)],
            CASE current_setting('transaction_isolation') WHEN 'read committed' THEN ',"snap":"' || pg_current_snapshot() || '"}'
            ELSE '}' END;
        PERFORM set_config('flux.tally', ARRAY[tally[1], tally[2] + said_rows, tally[3] + coalesce(said_bytes, 0), tally[4],
                                               tally[5], tally[6]]::text, true);
    END IF;
    RETURN NULL;
END $$;

-- The text of an INSERT into flux.mutations from a query of images (was, becomes) that has %1$s where a row `r` is converted. Its parameters: request_id,
-- day, origin, schema, table, op, columns to leave out, the key's columns.
CREATE FUNCTION flux.insertion(images text, image text) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT $sql$INSERT INTO flux.mutations (request_id, day, n, xid, system_id, schema_name, table_name, op, key, before, after, at, origin,
                                            actor, application_name)
        SELECT $1, $2, nextval('flux.mutation_order'), pg_current_xact_id(), flux.system_id(), $4, $5, $6,
               flux.key_of(coalesce(i.was, i.becomes), $8), i.was - $7, i.becomes - $7, clock_timestamp(), $3,
               CASE current_setting('role') WHEN 'none' THEN session_user::text ELSE current_setting('role') END,
               nullif(current_setting('application_name'), '')
        FROM ($sql$ || format(images, image) || ') AS i (was, becomes)'
$$;

-- Capture per row.
CREATE FUNCTION flux.capture_row() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET "TimeZone" = 'UTC' SET "DateStyle" = 'ISO' SET "IntervalStyle" = 'postgres'
SET extra_float_digits = 1 SET bytea_output = 'hex' SET xmlbinary = 'base64' AS $$
DECLARE
    ctx text := nullif(current_setting('flux.ctx', true), '');
    request text;
    on_day date;
    origin text := 'flux';
    was jsonb;
    becomes jsonb;
    of_key jsonb;
    place bigint;
    in_schema text := TG_TABLE_SCHEMA;
    in_table text := TG_TABLE_NAME;
BEGIN
    BEGIN
        was := to_jsonb(OLD);
        becomes := to_jsonb(NEW);
    EXCEPTION WHEN OTHERS THEN
        IF TG_OP <> 'INSERT' THEN
            EXECUTE 'SELECT ' || flux.careful_image(TG_RELID) || ' FROM (SELECT ($1).*) r' INTO was USING OLD;
        END IF;
        IF TG_OP <> 'DELETE' THEN
            EXECUTE 'SELECT ' || flux.careful_image(TG_RELID) || ' FROM (SELECT ($1).*) r' INTO becomes USING NEW;
        END IF;
    END;
    IF TG_ARGV[1] <> '{}' THEN
        was := was - TG_ARGV[1]::text[];
        becomes := becomes - TG_ARGV[1]::text[];
    END IF;
    IF right(ctx, 11) = current_setting('flux.day', true) AND length(ctx) = 43 AND translate(left(ctx, 32), '0123456789abcdef', '') = '' THEN
        request := left(ctx, 32);
        on_day := right(ctx, 10);
    ELSE
        SELECT h.request, h.on_day, h.origin INTO request, on_day, origin FROM flux.home_of(ctx) h;
    END IF;
    IF TG_ARGV[0] = 'p' THEN
        SELECT r.schema_name, r.table_name INTO in_schema, in_table FROM flux.root_of(TG_RELID) r;
    END IF;
    IF NEW.xmax <> '0' OR pg_trigger_depth() > 1 OR current_setting('flux.nested', true) <> '' THEN
        place := flux.place(TG_RELID, NEW.xmax <> '0', NEW.ctid, request, on_day, in_schema, in_table, coalesce(TG_ARGV[2:], '{}'), was, becomes);
    END IF;
    of_key := CASE WHEN TG_NARGS = 2 THEN NULL
                   WHEN TG_NARGS = 3 AND octet_length(coalesce(was, becomes) ->> TG_ARGV[2]) <= 1000
                   THEN jsonb_build_object(TG_ARGV[2], coalesce(was, becomes) -> TG_ARGV[2])
                   ELSE flux.key_of(coalesce(was, becomes), TG_ARGV[2:]) END;
    INSERT INTO flux.mutations AS m (request_id, day, n, xid, system_id, schema_name, table_name, op, key, before, after, at, origin,
                                     actor, application_name)
    VALUES (request, on_day, coalesce(place, nextval('flux.mutation_order')), pg_current_xact_id(), flux.system_id(),
            in_schema, in_table, TG_OP, of_key, was, becomes, clock_timestamp(), origin,
            CASE current_setting('role') WHEN 'none' THEN session_user::text ELSE current_setting('role') END,
            nullif(current_setting('application_name'), ''))
    RETURNING m.n INTO place;
    -- Once there is no room left ("1" at the tally's end), a row has nothing to announce.
    IF origin = 'flux' AND current_setting('flux.tally', true)
       NOT LIKE '{' || (date_part('epoch', statement_timestamp()) * 1000000)::bigint || ',%,1}' IS NOT FALSE THEN
        PERFORM flux.keep_announcement(place, in_schema, in_table, TG_OP, of_key, was, becomes);
    END IF;
    RETURN NULL;
END $$;

-- The same for tables whose images depend on fewer settings (flux.needs_settings): each SET clause costs every call.
DO $$
BEGIN
    EXECUTE replace(pg_get_functiondef('flux.capture_statement()'::regprocedure), 'flux.capture_statement', 'flux.capture_statement_plain');
    EXECUTE replace(pg_get_functiondef('flux.capture_row()'::regprocedure), 'flux.capture_row', 'flux.capture_row_plain');
END $$;
ALTER FUNCTION flux.capture_statement_plain() RESET "DateStyle" RESET "IntervalStyle" RESET bytea_output RESET xmlbinary;
ALTER FUNCTION flux.capture_row_plain() RESET "DateStyle" RESET "IntervalStyle" RESET bytea_output RESET xmlbinary;

-- Add a row to what flux.announce() will say: its JSON to flux.rows, or a mark in flux.tally that there was no room for it.
CREATE FUNCTION flux.keep_announcement(n bigint, in_schema text, in_table text, op text, of_key jsonb, was jsonb, becomes jsonb) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    tally bigint[] := flux.tally();
    rows text := nullif(current_setting('flux.rows', true), '');
    line text;
BEGIN
    IF tally[6] = 1 THEN
        RETURN;
    END IF;
    IF tally[2] < 32 THEN
        line := flux.announced(n, in_schema, in_table, op, of_key, was, becomes);
    END IF;
    IF line IS NULL OR tally[3] + octet_length(line) > 65536 THEN
        tally := ARRAY[tally[1], tally[2], tally[3], least(tally[4], n), coalesce(tally[5], n - 1), 1];
    ELSE
        tally := ARRAY[tally[1], tally[2] + 1, tally[3] + octet_length(line), least(tally[4], n), greatest(tally[5], n), 0];
        PERFORM set_config('flux.rows', concat_ws(',', rows, line), true);
    END IF;
    PERFORM set_config('flux.tally', tally::text, true);
END $$;

-- At the end of a statement whose rows were captured one by one: say what is pending. Rows beyond the cap are counted where they were written.
CREATE FUNCTION flux.announce() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    tally bigint[];
    rows text;
    left_out bigint := 0;
    last_n bigint;
BEGIN
    IF coalesce(current_setting('flux.ctx', true), '') = '' OR coalesce(current_setting('flux.tally', true), '') = '' THEN
        RETURN NULL;
    END IF;
    tally := flux.tally();
    rows := current_setting('flux.rows', true);
    IF tally[6] = 1 THEN
        SELECT count(*), max(m.n) INTO left_out, last_n
        FROM flux.home_of(current_setting('flux.ctx')) h
        JOIN flux.mutations m ON m.request_id = h.request AND m.day = h.on_day
        WHERE m.n > tally[5] AND m.xid = pg_current_xact_id();
    END IF;
    IF coalesce(rows, '') = '' AND left_out = 0 THEN
        RETURN NULL;
    END IF;
    RAISE INFO 'flux:{"r":"%","a":[%],"cut":%,"lo":%,"hi":% %', left(current_setting('flux.ctx'), 32), coalesce(rows, ''), left_out,
        coalesce(tally[4], tally[5]), greatest(last_n, tally[5]),
        CASE current_setting('transaction_isolation') WHEN 'read committed' THEN ',"snap":"' || pg_current_snapshot() || '"}'
        ELSE '}' END;
    PERFORM set_config('flux.rows', '', true);
    PERFORM set_config('flux.tally', ARRAY[tally[1], tally[2], tally[3], NULL, greatest(last_n, tally[5]), tally[6]]::text, true);
    RETURN NULL;
END $$;

-- Before a TRUNCATE: a mutation for every row that is about to go. A partitioned table's trigger speaks for those leaves that have none.
CREATE FUNCTION flux.capture_truncate() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET row_security = off
SET search_path = pg_catalog, pg_temp SET "TimeZone" = 'UTC' SET "DateStyle" = 'ISO' SET "IntervalStyle" = 'postgres'
SET extra_float_digits = 1 SET bytea_output = 'hex' SET xmlbinary = 'base64' AS $$
DECLARE
    h record;
    whose record;
    leaf oid;
    first_n bigint := nextval('flux.mutation_order');
    wrote bigint;
    many bigint := 0;
    said text;
BEGIN
    SELECT * INTO h FROM flux.home_of(nullif(current_setting('flux.ctx', true), ''));
    SELECT * INTO whose FROM flux.root_of(TG_RELID);
    FOR leaf IN
        SELECT t.relid FROM pg_partition_tree(TG_RELID) t
        WHERE t.isleaf AND NOT EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = t.relid AND g.tgname = TG_NAME)
        UNION ALL SELECT TG_RELID WHERE (SELECT c.relkind FROM pg_class c WHERE c.oid = TG_RELID) <> 'p'
    LOOP
        FOR careful IN 0 .. 1 LOOP
            BEGIN
                EXECUTE flux.insertion(format('SELECT %%1$s, NULL::jsonb FROM ONLY %s r', leaf::regclass),
                                       CASE careful WHEN 0 THEN 'to_jsonb(r.*)' ELSE flux.careful_image(leaf) END)
                USING h.request, h.on_day, h.origin, whose.schema_name, whose.table_name, TG_OP, TG_ARGV[1]::text[],
                      coalesce(TG_ARGV[2:], '{}');
                GET DIAGNOSTICS wrote = ROW_COUNT;
                many := many + wrote;
                EXIT;
            EXCEPTION WHEN OTHERS THEN
                IF careful = 1 THEN
                    PERFORM flux.note_epoch(leaf, 'truncate not captured');
                END IF;
            END;
        END LOOP;
    END LOOP;
    IF h.origin = 'flux' AND many > 0 THEN
        SELECT string_agg(line, ',' ORDER BY n), many - count(*) INTO said, wrote
        FROM (SELECT n, line, sum(octet_length(line)) OVER (ORDER BY n) AS total
              FROM (SELECT m.n, flux.announced(m.n, m.schema_name, m.table_name, m.op, m.key, m.before, m.after) AS line
                    FROM flux.mutations m
                    WHERE m.request_id = h.request AND m.day = h.on_day AND m.n > first_n AND m.xid = pg_current_xact_id()
                    ORDER BY m.n LIMIT 32) AS candidates) AS counted
        WHERE total <= 65536;
        RAISE INFO 'flux:{"r":"%","a":[%],"cut":%,"lo":%,"hi":% %', h.request, coalesce(said, ''), wrote, first_n, currval('flux.mutation_order'),
            CASE current_setting('transaction_isolation') WHEN 'read committed' THEN ',"snap":"' || pg_current_snapshot() || '"}'
            ELSE '}' END;
    END IF;
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

-- Installing ---------------------------------------------------------------------------------------------------------

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

CREATE VIEW flux.user_schemas AS
    SELECT n.oid, n.nspname FROM pg_namespace n WHERE n.nspname NOT IN ('flux', 'pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\_%';

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

-- The partitions of each table as they were when its capture was last looked at.
CREATE TABLE flux.partitions (
    relation oid PRIMARY KEY,
    parent   oid NOT NULL
);
COMMENT ON TABLE flux.partitions IS 'Which tables were partitions of which, so that one that is attached or detached with rows in it makes an epoch.';

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
