-- The sessions of flux_app, and what a function's transaction says when it ends.
--
-- Which execution a session works for must stand where no SQL of a function reaches. Settings don't: any SQL may SET them. What a session
-- has last got from a sequence (currval) does: it lives in the backend's memory, is no part of any transaction, and takes a privilege on the
-- sequence to read or to change. So these sequences number nothing. flux.enter() writes to them, once each time a connection is lent;
-- DISCARD SEQUENCES clears them when it comes back. A function that discards them itself can change no row until then.
DO $$
DECLARE
    kind text := CASE WHEN current_setting('server_version_num')::integer >= 150000 THEN 'UNLOGGED' ELSE '' END;
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['request_high', 'request_low', 'request_day', 'voice', 'said', 'unsaid'] LOOP
        EXECUTE format('CREATE %s SEQUENCE flux.%I MINVALUE -9223372036854775808 MAXVALUE 9223372036854775807 START 0', kind, name);
    END LOOP;
END $$;
COMMENT ON SEQUENCE flux.request_high IS 'Per session: the first 16 hex digits of the execution that a session of flux_app works for.';
COMMENT ON SEQUENCE flux.request_low IS 'Per session: the last 16 hex digits of that execution.';
COMMENT ON SEQUENCE flux.request_day IS 'Per session: that execution''s day, in days since 2000-01-01.';
COMMENT ON SEQUENCE flux.voice IS 'Per session: what announcements to the process that uses it begin with, so that it knows them from a function''s own.';
COMMENT ON SEQUENCE flux.said IS 'Per session: when the client''s statement began in which a row was captured last, and how much it has announced (flux.may_say).';
COMMENT ON SEQUENCE flux.unsaid IS 'Per session: the number of the first row of the statement under way that was not announced; 0: all were.';

-- What opens flux.enter(): known to the processes that connect as the owner. The function that flux_app calls holds its hash alone.
CREATE TABLE flux.gate (
    alone boolean PRIMARY KEY DEFAULT true CHECK (alone),
    token bytea NOT NULL
);
COMMENT ON TABLE flux.gate IS 'What a process shows flux.enter() to say which execution a session of flux_app works for. One row.';
COMMENT ON COLUMN flux.gate.alone IS 'Always true.';
COMMENT ON COLUMN flux.gate.token IS '32 random bytes.';
INSERT INTO flux.gate (token)
VALUES (sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8')));
DO $$ BEGIN
    EXECUTE format('CREATE FUNCTION flux.gate_hash() RETURNS bytea LANGUAGE sql IMMUTABLE AS %L',
                   format('SELECT %L::pg_catalog.bytea', (SELECT sha256(token) FROM flux.gate)));
END $$;

-- Say which execution this session works for from now on. Called by Flux before any SQL of the execution's function, never inside a read-only
-- transaction. Sets random() going anew, and fails where SQL has left prepared statements: the connection is then given up. Everything is qualified instead of a SET clause, which would cost each call.
CREATE FUNCTION flux.enter(token bytea, ctx text, request_high bigint, request_low bigint, request_day bigint, voice bigint) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    done text;
BEGIN
    IF (pg_catalog.sha256(token) OPERATOR(pg_catalog.=) flux.gate_hash()) IS NOT TRUE THEN
        RAISE insufficient_privilege USING MESSAGE = 'flux.enter is Flux''s own.';
    END IF;
    PERFORM FROM pg_catalog.pg_prepared_statement() s WHERE s.from_sql;
    IF FOUND THEN
        RAISE object_in_use USING MESSAGE = 'flux: the session is not clean.';
    END IF;
    done := pg_catalog.setseed(pg_catalog.float8div(pg_catalog.hashtextextended(pg_catalog.gen_random_uuid()::pg_catalog.text, 0),
                                                    9223372036854775808::pg_catalog.float8));
    IF pg_catalog.num_nulls(
           pg_catalog.setval('flux.request_high', request_high), pg_catalog.setval('flux.request_low', request_low),
           pg_catalog.setval('flux.request_day', request_day), pg_catalog.setval('flux.voice', voice),
           pg_catalog.setval('flux.said', 0), pg_catalog.setval('flux.unsaid', 0)) OPERATOR(pg_catalog.>) 0 THEN
        RETURN NULL;
    END IF;
    RETURN pg_catalog.set_config('flux.ctx', ctx, false);
END $$;

-- Make a day ready for the executions that begin in it. Once per process and day.
CREATE FUNCTION flux.open_day(token bytea, day date) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF (sha256(open_day.token) = flux.gate_hash()) IS NOT TRUE THEN
        RAISE insufficient_privilege USING MESSAGE = 'flux.open_day is Flux''s own.';
    END IF;
    PERFORM flux.ensure_partition('mutations', open_day.day);
END $$;

-- The execution that this session of flux_app works for.
CREATE FUNCTION flux.entered(OUT request_id text, OUT day date)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    request_id := lpad(to_hex(currval('flux.request_high')), 16, '0') || lpad(to_hex(currval('flux.request_low')), 16, '0');
    day := date '2000-01-01' + currval('flux.request_day')::integer;
EXCEPTION WHEN object_not_in_prerequisite_state THEN
    RAISE insufficient_privilege USING
        MESSAGE = 'Which execution this session of flux_app works for is not known: it changes nothing.',
        HINT = 'flux_app is for Flux''s functions alone, and DISCARD SEQUENCES takes from a session what it works for.';
END $$;

-- What this session's announcements begin with. Nobody listens to a session that was not entered.
CREATE FUNCTION flux.voice() RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN CASE WHEN session_user = 'flux_app' THEN currval('flux.voice') || ':' ELSE '' END;
EXCEPTION WHEN object_not_in_prerequisite_state THEN
    RETURN '';
END $$;

-- Fails if SQL has made prepared statements in this session, or dropped the one that enters it: its name is `gate`, '' if there is none.
CREATE FUNCTION flux.left_nothing(gate text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    made boolean;
    there boolean;
BEGIN
    SELECT bool_or(s.from_sql), bool_or(s.name = gate) INTO made, there FROM pg_prepared_statements s;
    IF made OR gate <> '' AND there IS NOT TRUE THEN
        RAISE object_in_use USING MESSAGE = 'Prepared statements were made or dropped in this session.';
    END IF;
END $$;

-- At a transaction's end, Flux's session runs `SELECT flux.leave(); COMMIT` in one simple query.
--
-- Announces {"end": {"xid": x, "snap": s}}: the transaction id, where one was assigned (a row lock, or
-- a write to a table that is not captured: captured writes have told it already), and under REPEATABLE READ and SERIALIZABLE
-- the snapshot that all of its statements saw. Asking for that one earlier would take it earlier, before the first statement
-- of the function. Says nothing where it has neither.
CREATE FUNCTION flux.leave() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    said jsonb := jsonb_strip_nulls(jsonb_build_object(
        'xid', pg_current_xact_id_if_assigned()::text::bigint,
        'snap', CASE WHEN current_setting('transaction_isolation') <> 'read committed' THEN pg_current_snapshot()::text END
    ));
BEGIN
    IF said <> '{}' THEN
        RAISE INFO 'flux:%', flux.voice() || jsonb_build_object('end', said);
    END IF;
END $$;
