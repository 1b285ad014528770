-- Executions whose id lies in [first, after), in the order of their ids. A function for its setting: a plan over all days'
-- partitions takes longer to make than to run, and Postgres would make it anew each time, so it is kept per session.
CREATE FUNCTION flux.executions_between(first text, after text, most integer)
RETURNS TABLE (request_id text, day date, trace_id text, started_at timestamptz, function text, status integer,
               outcome text, method text, path text)
LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan
AS $$
BEGIN
    RETURN QUERY
    SELECT e.request_id, e.day, e.trace_id, e.started_at, e.function, e.status, e.outcome, e.method, e.path
    FROM flux.executions AS e
    WHERE e.request_id >= first AND e.request_id < after
    ORDER BY e.request_id
    LIMIT most;
END $$;
