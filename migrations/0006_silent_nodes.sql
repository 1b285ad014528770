-- Which node did what, as far as Postgres can tell without the node's record: changes carry it in flux.mutations.application_name
-- (a node's connections are called `flux <node id>`), and so do pushes from now on.

ALTER TABLE flux.jobs ADD COLUMN pushed_from text;
ALTER TABLE flux.jobs ALTER COLUMN pushed_from SET DEFAULT nullif(current_setting('application_name'), '');
COMMENT ON COLUMN flux.jobs.pushed_from IS 'application_name of the session that pushed it: `flux <node id>` for a serving process.';
COMMENT ON COLUMN flux.nodes.stopped_at IS 'When its process was known to have ended, in good order or not.';
COMMENT ON COLUMN flux.nodes.heartbeat_at IS 'By this server''s clock. A node whose heartbeat is older than 10 s is silent.';
