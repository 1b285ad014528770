-- A span is found by its execution, and an execution by its trace_id: an index on every span's trace_id cost a third of
-- what storing a span costs Postgres, and answered one question ("whose is this parent?") that executions answer, too.
DROP INDEX flux.spans_trace_id;
COMMENT ON COLUMN flux.spans.trace_id IS 'Not indexed: a trace''s executions are found in flux.executions, and what belongs to none has the trace''s id as its request_id.';
