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
-- Order numbers (flux.mutations.n) grow by 32. Played backwards by n, a table's mutations give what was before. Captures run after the
-- whole statement, so a statement within it (a trigger's, a function's in an expression) may have written a row again and been numbered
-- already. Such a mutation is placed below its follower, in the gap of 31 numbers (flux.place).
--
-- Images are to_jsonb of the row under UTC and lossless floats, whatever the session has set. A column that to_jsonb refuses
-- (\u0000 in json, 256 MB) is kept as {"$text": "..."}; a capture never makes the user's statement fail.
--
-- Context: which execution a mutation belongs to. Of a session of flux_app, Flux itself has said so with flux.enter() (0007), where no SQL of
-- a function reaches. The setting flux.ctx (`<request_id>|<day>`) says the same for all to read; a function may change it, and what it
-- changes then is marked `forged`, under its own execution still. Other sessions (any asyncpg program of the owner's) have flux.ctx
-- alone. Nothing a function can do stops its rows from being captured: it owns neither tables nor triggers.
--
-- Announcements, only where there is a context: RAISE INFO 'flux:', of flux_app's sessions the voice that flux.enter() was given and ':', and JSON
--   {"r": request_id, "a": [[n, xid, schema, table, op, key, before, after, at_epoch_us], ...], "cut": c, "lo": n, "hi": n, "snap": s}
-- ("cut", "lo" and "hi" are left out where one row is said whole)
-- once per statement that changed rows, once per row where they are captured one by one (one client statement may announce several
-- times: take the least lo, the greatest hi, add up cut). At most 32 rows and 64 KiB per client
-- statement; `cut` counts the rest. "snap" is there under READ COMMITTED.


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

-- The execution that a change belongs to. A session of flux_app: the one that entered it; `forged` where `ctx` names another. Other
-- sessions: the one that `ctx` names, or where it is null or unsound, the outside transaction's own. Makes a missing partition: an
-- outside write after a month's silence must not fail. Leaves the day in such a session's flux.day, by which captures know that they need
-- not ask again: it is sound and its partition is there.
CREATE FUNCTION flux.home_of(ctx text, OUT request text, OUT on_day date, OUT origin text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF session_user = 'flux_app' THEN
        SELECT e.request_id, e.day INTO request, on_day FROM flux.entered() e;
        origin := CASE WHEN ctx <> '' AND ctx <> request || to_char(on_day, '|YYYY-MM-DD') THEN 'forged' ELSE 'flux' END;
        RETURN;
    END IF;
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
    BEGIN
        PERFORM currval('flux.said');
    EXCEPTION WHEN object_not_in_prerequisite_state THEN
        PERFORM setval('flux.said', 0), setval('flux.unsaid', 0);
    END;
END $$;

-- Order -----------------------------------------------------------------------------------------------------------

-- The mutation that a change (was -> becomes) came before, of those of this transaction that have a number already; null: it came after
-- them all. Statements that ran within the change's own, by an expression's function, a default, a check, have been numbered first.
--
-- By the images, which say it all: the changes of one key are a chain, in which each begins with what the one before it left. `self` is the
-- change's own number, where it has one. Looked at are both keys of a row that moves.
CREATE FUNCTION flux.follower(relation oid, on_day date, in_schema text, in_table text, key_columns text[], self bigint,
                              was jsonb, becomes jsonb) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    old_key jsonb := flux.key_of(was, key_columns);
    new_key jsonb := flux.key_of(becomes, key_columns);
    of_key jsonb;
    was_there jsonb;
    is_there jsonb;
    numbers bigint[];
    befores jsonb[];
    afters jsonb[];
    stands jsonb;
    last_image jsonb;
    found bigint;
    least_n bigint;
BEGIN
    IF key_columns = '{}' THEN
        RETURN flux.follower_by_image(relation, on_day, in_schema, in_table, self, becomes);
    END IF;
    FOREACH of_key IN ARRAY CASE WHEN old_key = new_key THEN ARRAY[old_key] ELSE ARRAY[old_key, new_key] END LOOP
        CONTINUE WHEN of_key IS NULL;
        was_there := CASE WHEN old_key = of_key THEN was END;
        is_there := CASE WHEN new_key = of_key THEN becomes END;
        SELECT array_agg(e.n ORDER BY e.n), array_agg(e.before ORDER BY e.n), array_agg(e.after ORDER BY e.n) INTO numbers, befores, afters
        FROM (SELECT m.n, m.before, CASE WHEN m.after IS NOT NULL AND flux.key_of(m.after, key_columns) = of_key THEN m.after END AS after
              FROM flux.mutations m
              WHERE m.row_hash = jsonb_hash_extended(of_key, 0) AND m.key = of_key AND m.day = on_day
                AND m.xid = pg_current_xact_id() AND m.schema_name = in_schema AND m.table_name = in_table AND m.n <> coalesce(self, 0)
              UNION ALL
              SELECT m.n, NULL, m.after FROM flux.mutations m
              WHERE m.moved AND m.day = on_day
                AND m.xid = pg_current_xact_id() AND m.schema_name = in_schema AND m.table_name = in_table AND m.n <> coalesce(self, 0)
                AND m.key <> of_key AND flux.key_of(m.after, key_columns) = of_key) e;
        found := NULL;
        FOR i IN REVERSE coalesce(cardinality(numbers), 0) .. 1 LOOP
            IF befores[i] IS NOT DISTINCT FROM is_there
               AND (i = 1 OR befores[i] IS DISTINCT FROM afters[i - 1] OR was_there IS NOT DISTINCT FROM is_there) THEN
                found := numbers[i];
                EXIT;
            END IF;
        END LOOP;
        -- The last change of a key left what stands in the table now. (A link of the chain may be missing yet: that of a statement around.)
        IF found IS NOT NULL THEN
            stands := flux.standing(relation, of_key, key_columns);
            last_image := afters[cardinality(afters)];
            IF stands IS NOT DISTINCT FROM is_there
               AND (stands IS DISTINCT FROM last_image OR last_image IS NOT DISTINCT FROM was_there) THEN
                found := NULL;
            END IF;
        END IF;
        least_n := least(least_n, found);
    END LOOP;
    RETURN least_n;
END $$;

-- The same in a table without a primary key, where equal rows are one as good as the other: the latest place from which, played backward,
-- the log never undoes a row that isn't there.
CREATE FUNCTION flux.follower_by_image(relation oid, on_day date, in_schema text, in_table text, self bigint, becomes jsonb) RETURNS bigint
LANGUAGE plpgsql SET row_security = off SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    e record;
    standing bigint;
    found bigint;
BEGIN
    IF becomes IS NULL OR NOT EXISTS (
        SELECT FROM flux.mutations m
        WHERE m.row_hash = jsonb_hash_extended(becomes, 0) AND m.key IS NULL AND m.before = becomes AND m.day = on_day
          AND m.xid = pg_current_xact_id() AND m.schema_name = in_schema AND m.table_name = in_table AND m.n <> coalesce(self, 0)) THEN
        RETURN NULL;
    END IF;
    EXECUTE format('SELECT count(*) FROM %s r WHERE %s = $1', coalesce(pg_partition_root(relation::regclass), relation::regclass),
                   flux.whole_image(relation))
    INTO standing USING becomes;
    found := CASE WHEN standing < 1 THEN 0 END;
    FOR e IN
        SELECT m.n, ((m.before = becomes) IS TRUE)::integer - ((m.after = becomes) IS TRUE)::integer AS more FROM flux.mutations m
        WHERE m.day = on_day AND m.xid = pg_current_xact_id() AND m.schema_name = in_schema AND m.table_name = in_table
          AND m.n <> coalesce(self, 0) AND ((m.before = becomes) IS TRUE) <> ((m.after = becomes) IS TRUE)
        ORDER BY m.n DESC
    LOOP
        standing := standing + e.more;
        IF standing < 1 THEN
            found := 0;
        ELSIF found = 0 THEN
            found := e.n;
        END IF;
    END LOOP;
    RETURN nullif(found, 0);
END $$;

-- SQL that makes the image of a row `r` as captures do: without the columns that a trigger can't see.
CREATE FUNCTION flux.whole_image(relation oid) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT format('(to_jsonb(r.*) - %L::text[])', coalesce(array_agg(a.attname::text), '{}'))
    FROM pg_attribute a WHERE a.attrelid = relation AND a.attgenerated = 'v' AND NOT a.attisdropped
$$;

-- The image of the row that has a key now; null where there is none, or none that can be made.
CREATE FUNCTION flux.standing(relation oid, of_key jsonb, key_columns text[]) RETURNS jsonb
LANGUAGE plpgsql SET row_security = off SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    root regclass := coalesce(pg_partition_root(relation::regclass), relation::regclass);
    image jsonb;
BEGIN
    EXECUTE format('SELECT %s FROM %s r, jsonb_populate_record(NULL::%2$s, $1) k WHERE (%s)', flux.whole_image(relation), root,
                   (SELECT string_agg(format('r.%I = k.%1$I', name), ' AND ') FROM unnest(key_columns) AS name))
    INTO image USING of_key;
    RETURN image;
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END $$;

-- The next number below `n` that no mutation has.
CREATE FUNCTION flux.free_below(on_day date, n bigint) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    place bigint := n - 1;
BEGIN
    WHILE EXISTS (SELECT FROM flux.mutations m WHERE m.day = on_day AND m.n = place) LOOP
        place := place - 1;
    END LOOP;
    RETURN place;
END $$;

-- The number that a change should have instead of the next one: right below the mutation that it came before. Null: the next one.
CREATE FUNCTION flux.place(relation oid, on_day date, in_schema text, in_table text, key_columns text[], was jsonb, becomes jsonb) RETURNS bigint
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    SELECT flux.free_below(on_day, flux.follower(relation, on_day, in_schema, in_table, coalesce(key_columns, '{}'), NULL, was, becomes))
$$;

-- Give those of a statement's mutations another number that came before one that has a smaller number. `numbers`: theirs, ascending.
-- Returns them, changed in their places.
CREATE FUNCTION flux.settle(relation oid, request text, on_day date, in_schema text, in_table text, key_columns text[], numbers bigint[])
RETURNS bigint[] LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own record;
    place bigint;
    first_n bigint := numbers[1];
    any_moved boolean := EXISTS (SELECT FROM flux.mutations m
                             WHERE m.moved AND m.day = on_day
                               AND m.xid = pg_current_xact_id() AND m.schema_name = in_schema AND m.table_name = in_table);
BEGIN
    FOR own IN
        SELECT s.n, s.before, s.after FROM flux.mutations s
        WHERE s.request_id = request AND s.day = on_day AND s.n = ANY (numbers)
          AND (any_moved AND s.key IS NOT NULL OR EXISTS (
              SELECT FROM flux.mutations e
              WHERE e.row_hash = jsonb_hash_extended(s.key, 0) AND e.day = on_day AND e.n < first_n
                AND e.xid = pg_current_xact_id() AND e.schema_name = in_schema AND e.table_name = in_table)
          OR s.key IS NULL AND EXISTS (
              SELECT FROM flux.mutations e
              WHERE e.row_hash = jsonb_hash_extended(s.after, 0) AND e.key IS NULL AND e.day = on_day AND e.n < first_n
                AND e.xid = pg_current_xact_id() AND e.schema_name = in_schema AND e.table_name = in_table))
        ORDER BY s.n DESC
    LOOP
        place := flux.free_below(on_day, flux.follower(relation, on_day, in_schema, in_table, key_columns, own.n, own.before, own.after));
        IF place IS NOT NULL THEN
            UPDATE flux.mutations u SET n = place WHERE u.request_id = request AND u.day = on_day AND u.n = own.n;
            numbers := array_replace(numbers, own.n, place);
        END IF;
    END LOOP;
    RETURN numbers;
END $$;

-- The JSON of one announced row.
CREATE FUNCTION flux.announced(n bigint, in_schema text, in_table text, op text, of_key jsonb, was jsonb, becomes jsonb)
RETURNS text LANGUAGE sql STABLE AS $$
    SELECT json_build_array(n, pg_current_xact_id()::text::bigint, in_schema, in_table, op, of_key, was, becomes,
                            (date_part('epoch', clock_timestamp()) * 1000000)::bigint)::text
$$;

-- Whether a client statement may announce a row of that many bytes more. What it has said so far is kept in the session's flux.said:
-- µs since 2020 of its beginning, 6 bits of rows, 7 bits of KiB.
CREATE FUNCTION flux.may_say(bytes integer) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    used bigint := greatest(currval('flux.said'), ((date_part('epoch', statement_timestamp()) * 1000000)::bigint - 1577836800000000) << 13);
    kib integer := bytes / 1024 + 1;
BEGIN
    IF (used >> 7 & 63) >= 32 OR (used & 127) + kib > 64 THEN
        RETURN false;
    END IF;
    PERFORM setval('flux.said', used + 128 + kib);
    RETURN true;
END $$;

-- Capture per statement. A straight way for one row, and one for all else: more rows, an image that to_jsonb refuses, columns to leave out. The SET
-- clauses make images the same whatever the session has set. Images are made first, where a failure costs a subtransaction without writes.
-- Null are, in the straight way, `on_day` and `source` of a context that is sound, and `several`.
CREATE FUNCTION flux.capture_statement() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET "TimeZone" = 'UTC' SET "DateStyle" = 'ISO' SET "IntervalStyle" = 'postgres'
SET extra_float_digits = 1 SET bytea_output = 'hex' SET xmlbinary = 'base64' AS $$
DECLARE
    ctx text := current_setting('flux.ctx', true);
    request text := left(ctx, 32);
    voice text;
    known boolean;
    on_day date;
    source text;
    old_image jsonb;
    new_image jsonb;
    several boolean;
    stamp bigint := ((date_part('epoch', statement_timestamp()) * 1000000)::bigint - 1577836800000000) << 13;
    again boolean;
    lowest bigint;
    place bigint;
    moment timestamptz;
    of_key jsonb;
    numbers bigint[];
    was jsonb[];
    becomes jsonb[];
    careful boolean;
    many bigint;
    first_n bigint;
    used bigint;
    said text;
    said_rows bigint;
    said_bytes bigint;
BEGIN
    BEGIN
        used := currval('flux.said');
        IF session_user = 'flux_app' THEN
            voice := currval('flux.voice') || ':{"r":"';
            known := request = lpad(to_hex(currval('flux.request_high')), 16, '0') || lpad(to_hex(currval('flux.request_low')), 16, '0')
                     AND octet_length(ctx) = 43 AND right(ctx, 10)::date - date '2000-01-01' = currval('flux.request_day');
        ELSE
            voice := '{"r":"';
            known := octet_length(ctx) = 43 AND right(ctx, 11) = current_setting('flux.day', true) AND request ~ '^[0-9a-f]+$';
        END IF;
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
            known := false;
            several := true;
    END;
    IF known IS NOT TRUE THEN
        SELECT h.request, h.on_day, h.origin INTO request, on_day, source FROM flux.home_of(ctx) h;
        source := nullif(source, 'flux');
    END IF;
    IF several IS NULL AND TG_ARGV[1] = '{}' THEN
        place := nextval('flux.mutation_order');
        moment := clock_timestamp();
        of_key := CASE WHEN TG_NARGS = 3 AND octet_length(coalesce(old_image, new_image) ->> TG_ARGV[2]) <= 1000
                       THEN jsonb_build_object(TG_ARGV[2], coalesce(old_image, new_image) -> TG_ARGV[2])
                       WHEN TG_NARGS > 2 THEN flux.key_of(coalesce(old_image, new_image), TG_ARGV[2:]) END;
        IF used >= stamp THEN
            place := coalesce(flux.place(TG_RELID, coalesce(on_day, right(ctx, 10)::date), TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_ARGV[2:],
                                         old_image, new_image), place);
        END IF;
        INSERT INTO flux.mutations (request_id, day, n, xid, system_id, schema_name, table_name, op, key, before, after, at, origin,
                                    actor, application_name, row_hash, moved)
        VALUES (request, coalesce(on_day, right(ctx, 10)::date), place, pg_current_xact_id(), flux.system_id(), TG_TABLE_SCHEMA, TG_TABLE_NAME,
                TG_OP, of_key, old_image, new_image, moment, coalesce(source, 'flux'),
                coalesce(nullif(current_setting('role'), 'none'), session_user), nullif(current_setting('application_name'), ''),
                jsonb_hash_extended(coalesce(of_key, old_image), 0),
                CASE WHEN TG_OP = 'UPDATE' AND NOT (new_image @> of_key AND old_image @> of_key) THEN true END);
        IF source = 'outside' THEN
            used := setval('flux.said', greatest(used, stamp));
            RETURN NULL;
        END IF;
        said := json_build_array(place, txid_current(), TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_OP, of_key, old_image, new_image,
                                 (date_part('epoch', moment) * 1000000)::bigint);
        IF used < stamp AND octet_length(said) <= 64512 THEN
            used := setval('flux.said', stamp + 129 + octet_length(said) / 1024);
        ELSIF NOT flux.may_say(octet_length(said)) THEN
            said := format('],"cut":1,"lo":%s,"hi":%1$s,"left":[', place);  -- "a" stays empty
        END IF;
        IF current_setting('transaction_isolation') = 'read committed' THEN
            RAISE INFO 'flux:%","a":[%],"snap":"%"}', voice || request, said, pg_current_snapshot();
        ELSE
            RAISE INFO 'flux:%","a":[%]}', voice || request, said;
        END IF;
        RETURN NULL;
    END IF;

    on_day := coalesce(on_day, right(ctx, 10)::date);
    source := coalesce(source, 'flux');
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
    IF many IS NULL AND careful IS NULL THEN
        RETURN NULL;
    END IF;
    again := used >= stamp;
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
        IF again THEN
            SELECT min(s.n) INTO lowest
            FROM unnest(flux.settle(TG_RELID, request, on_day, TG_TABLE_SCHEMA, TG_TABLE_NAME, coalesce(TG_ARGV[2:], '{}'),
                                    ARRAY(SELECT m.n FROM flux.mutations m
                                          WHERE m.request_id = request AND m.day = on_day AND m.n > first_n AND m.xid = pg_current_xact_id()
                                          ORDER BY m.n))) AS s (n);
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
                                    actor, application_name, row_hash, moved)
        SELECT request, on_day, i.n, pg_current_xact_id(), flux.system_id(), TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_OP, i.key,
               i.was, i.becomes, clock_timestamp(), source,
               CASE current_setting('role') WHEN 'none' THEN session_user::text ELSE current_setting('role') END,
               nullif(current_setting('application_name'), ''), jsonb_hash_extended(coalesce(i.key, i.was), 0),
               CASE WHEN TG_OP = 'UPDATE' AND NOT (i.was @> i.key AND i.becomes @> i.key) THEN true END
        FROM (SELECT g.n, g.was, g.becomes,
                     CASE WHEN TG_NARGS = 2 THEN NULL
                          WHEN TG_NARGS = 3 AND octet_length(coalesce(g.was, g.becomes) ->> TG_ARGV[2]) <= 1000
                          THEN jsonb_build_object(TG_ARGV[2], coalesce(g.was, g.becomes) -> TG_ARGV[2])
                          ELSE flux.key_of(coalesce(g.was, g.becomes), TG_ARGV[2:]) END AS key
              FROM unnest(numbers, was, becomes) AS g (n, was, becomes)
              OFFSET 0) AS i;
        IF again THEN
            numbers := flux.settle(TG_RELID, request, on_day, TG_TABLE_SCHEMA, TG_TABLE_NAME, coalesce(TG_ARGV[2:], '{}'), numbers);
            lowest := (SELECT min(s.n) FROM unnest(numbers) AS s (n));
        END IF;
    END IF;

    used := greatest(currval('flux.said'), stamp);
    IF source <> 'outside' THEN
        SELECT string_agg(line, ',' ORDER BY n), count(*), max(total) INTO said, said_rows, said_bytes
        FROM (SELECT n, line, sum(octet_length(line) / 1024 + 1) OVER (ORDER BY n) AS total
              FROM (SELECT i.n, flux.announced(i.n, TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_OP,
                                               flux.key_of(coalesce(i.was, i.becomes), TG_ARGV[2:]), i.was, i.becomes) AS line
                    FROM unnest(numbers[:32], was[:32], becomes[:32]) AS i (n, was, becomes)
                    LIMIT 32 - (used >> 7 & 63)) AS candidates) AS counted
        WHERE total + (used & 127) <= 64;
        RAISE INFO 'flux:%{"r":"%","a":[%],"cut":%,"lo":%,"hi":% %', flux.voice(), request, coalesce(said, ''), many - said_rows,
            coalesce(lowest, numbers[1]), numbers[cardinality(numbers)],
            CASE current_setting('transaction_isolation') WHEN 'read committed' THEN ',"snap":"' || pg_current_snapshot() || '"}'
            ELSE '}' END;
        used := used + said_rows * 128 + coalesce(said_bytes, 0);
    END IF;
    PERFORM setval('flux.said', used);
    RETURN NULL;
END $$;

-- The text of an INSERT into flux.mutations from a query of images (was, becomes) that has %1$s where a row `r` is converted. Its parameters: request_id,
-- day, origin, schema, table, op, columns to leave out, the key's columns.
CREATE FUNCTION flux.insertion(images text, image text) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT $sql$INSERT INTO flux.mutations (request_id, day, n, xid, system_id, schema_name, table_name, op, key, before, after, at, origin,
                                            actor, application_name, row_hash, moved)
        SELECT $1, $2, nextval('flux.mutation_order'), pg_current_xact_id(), flux.system_id(), $4, $5, $6,
               i.key, i.was - $7, i.becomes - $7, clock_timestamp(), $3,
               CASE current_setting('role') WHEN 'none' THEN session_user::text ELSE current_setting('role') END,
               nullif(current_setting('application_name'), ''), jsonb_hash_extended(coalesce(i.key, i.was - $7), 0),
               CASE WHEN i.was IS NOT NULL AND NOT (i.was @> i.key AND i.becomes @> i.key) THEN true END
        FROM (SELECT flux.key_of(coalesce(g.was, g.becomes), $8) AS key, g.was, g.becomes
              FROM ($sql$ || format(images, image) || ') AS g (was, becomes)) AS i'
$$;

-- Capture per row. The first row of a client statement is kept for its announcement here, others by flux.keep_announcement; once there is no room
-- left ("1" at the tally's end), a row has nothing to announce.
CREATE FUNCTION flux.capture_row() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET "TimeZone" = 'UTC' SET "DateStyle" = 'ISO' SET "IntervalStyle" = 'postgres'
SET extra_float_digits = 1 SET bytea_output = 'hex' SET xmlbinary = 'base64' AS $$
DECLARE
    ctx text := current_setting('flux.ctx', true);
    request text := left(ctx, 32);
    on_day date;
    origin text := 'flux';
    was jsonb;
    becomes jsonb;
    of_key jsonb;
    stamp bigint := ((date_part('epoch', statement_timestamp()) * 1000000)::bigint - 1577836800000000) << 13;
    used bigint;
    stands boolean;
    place bigint;
    voice text;
    known boolean;
    said text;
    in_schema text := TG_TABLE_SCHEMA;
    in_table text := TG_TABLE_NAME;
BEGIN
    BEGIN
        used := currval('flux.said');
        IF session_user = 'flux_app' THEN
            voice := currval('flux.voice') || ':{"r":"';
            known := request = lpad(to_hex(currval('flux.request_high')), 16, '0') || lpad(to_hex(currval('flux.request_low')), 16, '0')
                     AND octet_length(ctx) = 43 AND right(ctx, 10)::date - date '2000-01-01' = currval('flux.request_day');
        ELSE
            voice := '{"r":"';
            known := octet_length(ctx) = 43 AND right(ctx, 11) = current_setting('flux.day', true) AND request ~ '^[0-9a-f]+$';
        END IF;
        was := to_jsonb(OLD);
        becomes := to_jsonb(NEW);
    EXCEPTION WHEN OTHERS THEN
        known := false;
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
    IF known THEN
        on_day := right(ctx, 10)::date;
    ELSE
        SELECT h.request, h.on_day, h.origin INTO request, on_day, origin FROM flux.home_of(ctx) h;
        used := currval('flux.said');
        voice := flux.voice() || '{"r":"';
    END IF;
    IF TG_ARGV[0] = 'p' THEN
        SELECT r.schema_name, r.table_name INTO in_schema, in_table FROM flux.root_of(TG_RELID) r;
    END IF;
    -- A row version that another statement has replaced came before it. A key that was left may have been taken again.
    IF NEW.xmax <> '0' THEN
        EXECUTE format('SELECT EXISTS (SELECT FROM ONLY %s WHERE ctid = $1)', TG_RELID::regclass) INTO stands USING NEW.ctid;
    END IF;
    IF NOT stands OR used >= stamp AND (TG_OP = 'DELETE' OR TG_OP = 'UPDATE' AND flux.key_of(was, TG_ARGV[2:]) <> flux.key_of(becomes, TG_ARGV[2:])) THEN
        place := flux.place(TG_RELID, on_day, in_schema, in_table, TG_ARGV[2:], was, becomes);
    END IF;
    of_key := CASE WHEN TG_NARGS = 3 AND octet_length(coalesce(was, becomes) ->> TG_ARGV[2]) <= 1000
                   THEN jsonb_build_object(TG_ARGV[2], coalesce(was, becomes) -> TG_ARGV[2])
                   WHEN TG_NARGS > 2 THEN flux.key_of(coalesce(was, becomes), TG_ARGV[2:]) END;
    IF place IS NULL THEN
        place := nextval('flux.mutation_order');
    END IF;
    INSERT INTO flux.mutations (request_id, day, n, xid, system_id, schema_name, table_name, op, key, before, after, at, origin,
                                actor, application_name, row_hash, moved)
    VALUES (request, on_day, place, pg_current_xact_id(), flux.system_id(),
            in_schema, in_table, TG_OP, of_key, was, becomes, clock_timestamp(), origin,
            coalesce(nullif(current_setting('role'), 'none'), session_user), nullif(current_setting('application_name'), ''),
            jsonb_hash_extended(coalesce(of_key, was), 0),
            CASE WHEN TG_OP = 'UPDATE' AND NOT (becomes @> of_key AND was @> of_key) THEN true END);
    IF origin = 'outside' THEN
        used := setval('flux.said', greatest(used, stamp));
    ELSIF currval('flux.unsaid') = 0 THEN
        said := json_build_array(place, txid_current(), in_schema, in_table, TG_OP, of_key, was, becomes,
                                 (date_part('epoch', clock_timestamp()) * 1000000)::bigint);
        IF used < stamp AND octet_length(said) <= 64512 THEN
            used := setval('flux.said', stamp + 129 + octet_length(said) / 1024);
        ELSIF NOT flux.may_say(octet_length(said)) THEN
            PERFORM setval('flux.unsaid', place);
            RETURN NULL;
        END IF;
        IF current_setting('transaction_isolation') = 'read committed' THEN
            RAISE INFO 'flux:%","a":[%],"snap":"%"}', voice || request, said, pg_current_snapshot();
        ELSE
            RAISE INFO 'flux:%","a":[%]}', voice || request, said;
        END IF;
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

-- At the end of a statement whose rows were captured one by one: say how many there were past the first that could not be announced.
CREATE FUNCTION flux.announce() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    ctx text := current_setting('flux.ctx', true);
    h record;
    first_n bigint;
    last_n bigint;
    left_out bigint;
BEGIN
    IF coalesce(ctx, '') = '' AND session_user <> 'flux_app' THEN
        RETURN NULL;
    END IF;
    BEGIN
        first_n := currval('flux.unsaid');
    EXCEPTION WHEN object_not_in_prerequisite_state THEN
        RETURN NULL;  -- nothing was captured in this session
    END;
    IF first_n = 0 THEN
        RETURN NULL;
    END IF;
    SELECT * INTO h FROM flux.home_of(ctx);
    SELECT count(*), max(m.n) INTO left_out, last_n FROM flux.mutations m
    WHERE m.request_id = h.request AND m.day = h.on_day AND m.n >= first_n AND m.xid = pg_current_xact_id();
    PERFORM setval('flux.unsaid', 0);
    IF left_out > 0 THEN
        RAISE INFO 'flux:%{"r":"%","a":[],"cut":%,"lo":%,"hi":% %', flux.voice(), h.request, left_out, first_n, last_n,
            CASE current_setting('transaction_isolation') WHEN 'read committed' THEN ',"snap":"' || pg_current_snapshot() || '"}'
            ELSE '}' END;
    END IF;
    RETURN NULL;
END $$;

-- Before a TRUNCATE: a mutation for every row that is about to go. A partitioned table's trigger speaks for those leaves that have none.
--
-- TRUNCATE takes rows that its transaction can't see. Under REPEATABLE READ and SERIALIZABLE that is so of all that was committed after the
-- snapshot, and of what the captures of those rows wrote. So an epoch is noted as well, with all that is needed to find the rest once the
-- transaction has ended (flux.complete_truncations).
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
    blind boolean := current_setting('transaction_isolation') IN ('repeatable read', 'serializable');
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
                IF blind THEN
                    PERFORM flux.note_truncation(leaf, h.request, h.on_day, h.origin, coalesce(TG_ARGV[2:], '{}'));
                END IF;
                EXIT;
            EXCEPTION WHEN OTHERS THEN
                IF careful = 1 THEN
                    PERFORM flux.note_epoch(leaf, 'truncate not captured');
                END IF;
            END;
        END LOOP;
    END LOOP;
    IF h.origin <> 'outside' AND many > 0 THEN
        SELECT string_agg(line, ',' ORDER BY n), many - count(*) INTO said, wrote
        FROM (SELECT n, line, sum(octet_length(line)) OVER (ORDER BY n) AS total
              FROM (SELECT m.n, flux.announced(m.n, m.schema_name, m.table_name, m.op, m.key, m.before, m.after) AS line
                    FROM flux.mutations m
                    WHERE m.request_id = h.request AND m.day = h.on_day AND m.n > first_n AND m.xid = pg_current_xact_id()
                    ORDER BY m.n LIMIT 32) AS candidates) AS counted
        WHERE total <= 65536;
        RAISE INFO 'flux:%{"r":"%","a":[%],"cut":%,"lo":%,"hi":% %', flux.voice(), h.request, coalesce(said, ''), wrote, first_n, currval('flux.mutation_order'),
            CASE current_setting('transaction_isolation') WHEN 'read committed' THEN ',"snap":"' || pg_current_snapshot() || '"}'
            ELSE '}' END;
    END IF;
    RETURN NULL;
END $$;

-- Note that a TRUNCATE may have taken rows that its transaction could not see: an epoch, and what complete_truncations needs. Of the numbers
-- that are kept for such rows each stands for itself and the 31 below it.
CREATE FUNCTION flux.note_truncation(leaf oid, request text, on_day date, origin text, key_columns text[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    kept bigint[] := ARRAY(SELECT nextval('flux.mutation_order') FROM generate_series(1, 1024));
BEGIN
    PERFORM flux.note_epoch(leaf, 'truncate beyond its snapshot');
    UPDATE flux.epochs e
    SET pending = jsonb_build_object(
        'request_id', request, 'day', on_day, 'origin', origin, 'key', key_columns, 'numbers', kept,
        'actor', coalesce(nullif(current_setting('role'), 'none'), session_user::text), 'application_name', current_setting('application_name'))
    WHERE e.id = currval('flux.epochs_id_seq');
END $$;

-- For TRUNCATEs that took rows which their transactions could not see: write the mutations of those rows, and the epoch goes. Every such row
-- was captured when it was written, by a transaction that had ended when the TRUNCATE got its lock; so what those transactions added and took away,
-- image by image, is what the TRUNCATE's own snapshot was wrong by. Where there were more than the numbers that were kept, or
-- a partition is gone, the epoch stays. Returns how many it settled. Called by whoever installs capture, and at every tick.
CREATE FUNCTION flux.complete_truncations() RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    e record;
    d record;
    bound text;
    inside text;
    numbers bigint[];
    used integer;
    gone integer;
    settled integer := 0;
BEGIN
    FOR e IN SELECT * FROM flux.epochs WHERE pending IS NOT NULL ORDER BY n FOR UPDATE SKIP LOCKED LOOP
        BEGIN
            numbers := ARRAY(SELECT jsonb_array_elements_text(e.pending -> 'numbers'));
            used := 0;
            inside := 'true';
            IF (SELECT c.relispartition FROM pg_class c WHERE c.oid = e.table_oid) THEN
                bound := pg_get_partition_constraintdef(e.table_oid);
                inside := format('(SELECT %s FROM jsonb_populate_record(NULL::%s, c.image) AS r)', coalesce(bound, 'true'), e.table_oid::regclass);
            END IF;
            -- What another TRUNCATE took before this one was gone for every snapshot: only what came after it counts.
            FOR d IN EXECUTE format($sql$
                WITH c AS (
                    SELECT v.image, v.more, m.n, m.op FROM flux.mutations m
                    CROSS JOIN LATERAL (VALUES (m.after, 1), (m.before, -1)) AS v (image, more)
                    WHERE m.day >= $6 AND m.schema_name = $1 AND m.table_name = $2 AND m.n < $3 AND NOT m.rolled_back
                      AND m.system_id = flux.system_id() AND m.xid <> $4 AND NOT pg_visible_in_snapshot(m.xid, $5) AND v.image IS NOT NULL)
                SELECT c.image, sum(c.more) AS more FROM c
                WHERE c.n > coalesce((SELECT max(c.n) FROM c WHERE c.op = 'TRUNCATE' AND %1$s), 0) AND %1$s
                GROUP BY c.image HAVING sum(c.more) <> 0$sql$, inside)
                USING e.schema_name, e.table_name, e.n, e.xid, e.snapshot, (e.at - interval '3 days')::date
            LOOP
                IF d.more < 0 THEN
                    DELETE FROM flux.mutations m USING (
                        SELECT t.request_id, t.day, t.n FROM flux.mutations t
                        WHERE t.request_id = e.pending ->> 'request_id' AND t.day = (e.pending ->> 'day')::date AND t.xid = e.xid
                          AND t.op = 'TRUNCATE' AND t.schema_name = e.schema_name AND t.table_name = e.table_name AND t.n < e.n AND t.before = d.image
                        ORDER BY t.n LIMIT -d.more) gone_ones
                    WHERE m.request_id = gone_ones.request_id AND m.day = gone_ones.day AND m.n = gone_ones.n;
                    GET DIAGNOSTICS gone = ROW_COUNT;
                    IF gone < -d.more THEN
                        RAISE EXCEPTION 'a row that was not there was taken';
                    END IF;
                ELSE
                    INSERT INTO flux.mutations (request_id, day, n, xid, system_id, schema_name, table_name, op, key, before, at, origin, actor,
                                                application_name, row_hash)
                    SELECT e.pending ->> 'request_id', (e.pending ->> 'day')::date, numbers[1 + (used + i) / 32] - (used + i) % 32, e.xid,
                           flux.system_id(), e.schema_name, e.table_name, 'TRUNCATE',
                           k.key, d.image, e.at, e.pending ->> 'origin', e.pending ->> 'actor', nullif(e.pending ->> 'application_name', ''),
                           jsonb_hash_extended(coalesce(k.key, d.image), 0)
                    FROM generate_series(0, d.more::integer - 1) AS i,
                         (SELECT flux.key_of(d.image, ARRAY(SELECT jsonb_array_elements_text(e.pending -> 'key')))) AS k (key);
                    used := used + d.more::integer;
                END IF;
            END LOOP;
            DELETE FROM flux.epochs WHERE id = e.id;
            settled := settled + 1;
        EXCEPTION WHEN OTHERS THEN
            UPDATE flux.epochs SET pending = NULL WHERE id = e.id;
        END;
    END LOOP;
    RETURN settled;
END $$;
