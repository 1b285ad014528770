-- How far a node's clock is from the database's, so that `flux doctor` can name the one that is wrong: executions bear their node's time,
-- mutations the database's.
ALTER TABLE flux.nodes ADD COLUMN clock_offset_ms double precision;
COMMENT ON COLUMN flux.nodes.clock_offset_ms IS 'The node''s clock minus the database''s, as measured at its latest heartbeats.';
