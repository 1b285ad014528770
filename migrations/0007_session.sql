-- What a function's transaction says when it begins and when it ends.

-- Called in the simple query that begins a transaction: `BEGIN; SET LOCAL flux.ctx = '...'; SELECT flux.enter()`.
CREATE FUNCTION flux.enter() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF current_setting('transaction_isolation') = 'read committed' THEN
        RAISE INFO 'flux:{"begin":{"snap":"%"}}', pg_current_snapshot();
    END IF;
END $$;

-- At its end, Flux's session runs `SELECT flux.leave(); COMMIT` in one simple query.
--
-- Announces, as RAISE INFO 'flux:' and JSON, {"end": {"xid": x, "snap": s}}: the transaction id, where one was assigned (a row lock, or
-- a write to a table that is not captured: captured writes have told it already), and under REPEATABLE READ and SERIALIZABLE
-- the snapshot that all of its statements saw. Asking for that one earlier would take it earlier, before the first statement
-- of the function. Says nothing where it has neither.
CREATE FUNCTION flux.leave() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    said jsonb := jsonb_strip_nulls(jsonb_build_object(
        'xid', pg_current_xact_id_if_assigned()::text::bigint,
        'snap', CASE WHEN current_setting('transaction_isolation') <> 'read committed' THEN pg_current_snapshot()::text END
    ));
BEGIN
    IF said <> '{}' THEN
        RAISE INFO 'flux:%', jsonb_build_object('end', said);
    END IF;
END $$;
