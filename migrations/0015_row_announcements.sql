-- What a one-row statement pays on a table whose rows are captured one by one: the announcement, once more than the row itself, by half. PERFORM
-- runs an executor where an assignment evaluates an expression.

-- Capture per row. The first row of a client statement is kept for its announcement here, others by flux.keep_announcement; once there is no room
-- left ("1" at the tally's end), a row has nothing to announce.
CREATE OR REPLACE FUNCTION flux.capture_row() RETURNS trigger
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
    place bigint;
    key_column text;
    stamp text;
    heard text;
    said text;
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
    IF octet_length(ctx) = 43 AND right(ctx, 11) = current_setting('flux.day', true) AND request ~ '^[0-9a-f]+$' THEN
        on_day := right(ctx, 10)::date;
    ELSE
        SELECT h.request, h.on_day, h.origin INTO request, on_day, origin FROM flux.home_of(ctx) h;
    END IF;
    IF TG_ARGV[0] = 'p' THEN
        SELECT r.schema_name, r.table_name INTO in_schema, in_table FROM flux.root_of(TG_RELID) r;
    END IF;
    IF NEW.xmax <> '0' OR pg_trigger_depth() > 1 OR current_setting('flux.nested', true) <> '' THEN
        place := flux.place(TG_RELID, NEW.xmax <> '0', NEW.ctid, request, on_day, in_schema, in_table, coalesce(TG_ARGV[2:], '{}'), was, becomes);
    END IF;
    IF TG_NARGS = 3 THEN
        key_column := TG_ARGV[2];
        of_key := CASE WHEN octet_length(coalesce(was, becomes) ->> key_column) <= 1000
                       THEN jsonb_build_object(key_column, coalesce(was, becomes) -> key_column) END;
    END IF;
    IF of_key IS NULL AND TG_NARGS > 2 THEN
        of_key := flux.key_of(coalesce(was, becomes), TG_ARGV[2:]);
    END IF;
    IF place IS NULL THEN
        place := nextval('flux.mutation_order');
    END IF;
    INSERT INTO flux.mutations (request_id, day, n, xid, system_id, schema_name, table_name, op, key, before, after, at, origin,
                                actor, application_name)
    VALUES (request, on_day, place, pg_current_xact_id(), flux.system_id(),
            in_schema, in_table, TG_OP, of_key, was, becomes, clock_timestamp(), origin,
            coalesce(nullif(current_setting('role'), 'none'), session_user), nullif(current_setting('application_name'), ''));
    IF origin = 'flux' THEN
        stamp := '{' || (date_part('epoch', statement_timestamp()) * 1000000)::bigint || ',';
        heard := current_setting('flux.tally', true);
        IF starts_with(heard, stamp) IS NOT TRUE THEN
            said := json_build_array(place, txid_current(), in_schema, in_table, TG_OP, of_key, was, becomes,
                                     (date_part('epoch', clock_timestamp()) * 1000000)::bigint);
        END IF;
        IF octet_length(said) <= 65536 THEN
            heard := set_config('flux.rows', concat_ws(',', nullif(current_setting('flux.rows', true), ''), said), true);
            heard := set_config('flux.tally', format('%s1,%s,%s,%s,0}', stamp, octet_length(said), place, place), true);
        ELSIF said IS NOT NULL OR heard NOT LIKE '%,1}' THEN
            PERFORM flux.keep_announcement(place, in_schema, in_table, TG_OP, of_key, was, becomes);
        END IF;
    END IF;
    RETURN NULL;
END $$;

-- As in migration 0014.
DO $$
BEGIN
    EXECUTE replace(pg_get_functiondef('flux.capture_row()'::regprocedure), 'flux.capture_row', 'flux.capture_row_plain');
END $$;
ALTER FUNCTION flux.capture_row_plain() RESET "DateStyle" RESET "IntervalStyle" RESET bytea_output RESET xmlbinary;

-- Add a row to what flux.announce() will say: its JSON to flux.rows, or a mark in flux.tally that there was no room for it.
CREATE OR REPLACE FUNCTION flux.keep_announcement(n bigint, in_schema text, in_table text, op text, of_key jsonb, was jsonb, becomes jsonb) RETURNS void
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
        line := set_config('flux.rows', concat_ws(',', rows, line), true);
    END IF;
    line := set_config('flux.tally', tally::text, true);
END $$;

-- At the end of a statement whose rows were captured one by one: say what is pending. Rows beyond the cap are counted where they were written.
CREATE OR REPLACE FUNCTION flux.announce() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    ctx text := current_setting('flux.ctx', true);
    heard text := current_setting('flux.tally', true);
    rows text;
    tally bigint[];
    left_out bigint := 0;
    first_n bigint;
    last_n bigint;
BEGIN
    IF coalesce(ctx, '') = '' OR coalesce(heard, '') = '' THEN
        RETURN NULL;
    END IF;
    tally := flux.tally();
    rows := coalesce(current_setting('flux.rows', true), '');
    IF tally[6] = 1 THEN
        SELECT count(*), max(m.n) INTO left_out, last_n
        FROM flux.home_of(ctx) h
        JOIN flux.mutations m ON m.request_id = h.request AND m.day = h.on_day
        WHERE m.n > tally[5] AND m.xid = pg_current_xact_id();
    END IF;
    IF rows = '' AND left_out = 0 THEN
        RETURN NULL;
    END IF;
    first_n := coalesce(tally[4], tally[5]);
    last_n := greatest(last_n, tally[5]);
    IF current_setting('transaction_isolation') = 'read committed' THEN
        RAISE INFO 'flux:{"r":"%","a":[%],"cut":%,"lo":%,"hi":%,"snap":"%"}', left(ctx, 32), rows, left_out, first_n, last_n,
            pg_current_snapshot();
    ELSE
        RAISE INFO 'flux:{"r":"%","a":[%],"cut":%,"lo":%,"hi":%}', left(ctx, 32), rows, left_out, first_n, last_n;
    END IF;
    heard := set_config('flux.rows', '', true);
    heard := set_config('flux.tally', ARRAY[tally[1], tally[2], tally[3], NULL, last_n, tally[6]]::text, true);
    RETURN NULL;
END $$;
