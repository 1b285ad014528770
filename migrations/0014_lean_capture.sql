-- Capture per statement, leaner: the same rows and announcements for four fifths of the work.
--
-- What a one-row statement pays is the starting of expressions: PL/pgSQL starts each anew in each transaction, the executor in each
-- execution, and RETURNING on a partitioned table twice, translated. So the order number and the time are taken first, the INSERT
-- has bare variables and returns nothing, and what is rarely needed stands in branches of its own.

-- Capture per statement. A straight way for one row, and one for all else: more rows, an image that to_jsonb refuses, columns to leave out. The SET
-- clauses make images the same whatever the session has set. Images are made first, where a failure costs a subtransaction without writes.
-- Null are, in the straight way, `on_day` and `source` of a context that is sound, and `several`.
CREATE OR REPLACE FUNCTION flux.capture_statement() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET "TimeZone" = 'UTC' SET "DateStyle" = 'ISO' SET "IntervalStyle" = 'postgres'
SET extra_float_digits = 1 SET bytea_output = 'hex' SET xmlbinary = 'base64' AS $$
DECLARE
    ctx text := current_setting('flux.ctx', true);
    request text := left(ctx, 32);
    on_day date;
    source text;
    old_image jsonb;
    new_image jsonb;
    several boolean;
    place bigint;
    moment timestamptz;
    key_column text;
    of_key jsonb;
    numbers bigint[];
    was jsonb[];
    becomes jsonb[];
    careful boolean;
    many bigint;
    first_n bigint;
    stamp text;
    heard text;
    tally bigint[];
    said text;
    said_rows bigint;
    said_bytes bigint;
    cut bigint;
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
            several := true;
    END;
    IF (octet_length(ctx) = 43 AND right(ctx, 11) = current_setting('flux.day', true) AND request ~ '^[0-9a-f]+$') IS NOT TRUE THEN
        SELECT h.request, h.on_day, h.origin INTO request, on_day, source FROM flux.home_of(ctx) h;
        source := nullif(source, 'flux');
    END IF;
    IF several IS NULL AND TG_ARGV[1] = '{}' THEN
        place := nextval('flux.mutation_order');
        moment := clock_timestamp();
        IF TG_NARGS = 3 THEN
            key_column := TG_ARGV[2];
            of_key := CASE WHEN octet_length(coalesce(old_image, new_image) ->> key_column) <= 1000
                           THEN jsonb_build_object(key_column, coalesce(old_image, new_image) -> key_column) END;
        END IF;
        IF of_key IS NULL AND TG_NARGS > 2 THEN
            of_key := flux.key_of(coalesce(old_image, new_image), TG_ARGV[2:]);
        END IF;
        INSERT INTO flux.mutations (request_id, day, n, xid, system_id, schema_name, table_name, op, key, before, after, at, origin,
                                    actor, application_name)
        VALUES (request, coalesce(on_day, right(ctx, 10)::date), place, pg_current_xact_id(), flux.system_id(), TG_TABLE_SCHEMA, TG_TABLE_NAME,
                TG_OP, of_key, old_image, new_image, moment, coalesce(source, 'flux'),
                coalesce(nullif(current_setting('role'), 'none'), session_user), nullif(current_setting('application_name'), ''));
        IF source IS NULL THEN
            said := json_build_array(place, txid_current(), TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_OP, of_key, old_image, new_image,
                                     (date_part('epoch', moment) * 1000000)::bigint);
            stamp := '{' || (date_part('epoch', statement_timestamp()) * 1000000)::bigint || ',';
            IF octet_length(said) > 65536 OR pg_trigger_depth() > 1 OR starts_with(current_setting('flux.tally', true), stamp) THEN
                tally := flux.tally();
                IF tally[2] >= 32 OR tally[3] + octet_length(said) > 65536 THEN
                    said := '';
                    cut := 1;
                END IF;
                heard := set_config('flux.tally', ARRAY[tally[1], tally[2] + 1 - coalesce(cut, 0), tally[3] + octet_length(said),
                                                        tally[4], tally[5], tally[6]]::text, true);
                IF pg_trigger_depth() > 1 THEN
                    heard := set_config('flux.nested', pg_current_xact_id()::text, true);
                END IF;
            ELSE
                heard := set_config('flux.tally', stamp || '1,' || octet_length(said) || ',NULL,NULL,0}', true);
            END IF;
            IF current_setting('transaction_isolation') = 'read committed' THEN
                RAISE INFO 'flux:{"r":"%","a":[%],"cut":%,"lo":%,"hi":%,"snap":"%"}', request, said, coalesce(cut, 0), place, place,
                    pg_current_snapshot();
            ELSE
                RAISE INFO 'flux:{"r":"%","a":[%],"cut":%,"lo":%,"hi":%}', request, said, coalesce(cut, 0), place, place;
            END IF;
        ELSIF pg_trigger_depth() > 1 THEN
            heard := set_config('flux.nested', pg_current_xact_id()::text, true);
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

-- The same for tables whose images depend on fewer settings (flux.needs_settings): each SET clause costs every call.
DO $$
BEGIN
    EXECUTE replace(pg_get_functiondef('flux.capture_statement()'::regprocedure), 'flux.capture_statement', 'flux.capture_statement_plain');
END $$;
ALTER FUNCTION flux.capture_statement_plain() RESET "DateStyle" RESET "IntervalStyle" RESET bytea_output RESET xmlbinary;
