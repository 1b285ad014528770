-- What code there is: functions, and every version of them that ever ran.

CREATE TABLE flux.functions (
    name       text PRIMARY KEY,
    deployment text COLLATE "C" NOT NULL,
    runtime    text NOT NULL,
    route      text NOT NULL,
    method     text NOT NULL,
    config     jsonb NOT NULL,
    updated_at timestamptz NOT NULL
);
COMMENT ON TABLE flux.functions IS 'Functions as they were deployed last.';
COMMENT ON COLUMN flux.functions.name IS 'The function''s name: its folder''s.';
COMMENT ON COLUMN flux.functions.deployment IS 'flux.deployments.id of its newest version.';
COMMENT ON COLUMN flux.functions.runtime IS 'typescript or python: which engine runs it.';
COMMENT ON COLUMN flux.functions.route IS 'Its route; empty where it has none.';
COMMENT ON COLUMN flux.functions.method IS 'Its HTTP methods.';
COMMENT ON COLUMN flux.functions.config IS 'Its flux.json with defaults filled in.';
COMMENT ON COLUMN flux.functions.updated_at IS 'When that version was deployed.';

CREATE TABLE flux.deployments (
    id         text COLLATE "C" PRIMARY KEY,
    function   text NOT NULL,
    created_at timestamptz NOT NULL,
    runtime    text NOT NULL,
    entry      text NOT NULL,
    config     jsonb NOT NULL,
    manifest   jsonb NOT NULL,
    bundle     bytea NOT NULL,
    engine     jsonb NOT NULL,
    git_commit text,
    git_dirty  boolean
);
CREATE INDEX deployments_function ON flux.deployments (function, created_at DESC);
COMMENT ON TABLE flux.deployments IS 'Versions of functions, stored whole. Every execution names one.';
COMMENT ON COLUMN flux.deployments.id IS 'Hash of what it holds: the same code has the same id.';
COMMENT ON COLUMN flux.deployments.function IS 'The function''s name.';
COMMENT ON COLUMN flux.deployments.created_at IS 'When it was first deployed.';
COMMENT ON COLUMN flux.deployments.runtime IS 'typescript or python: which engine runs it.';
COMMENT ON COLUMN flux.deployments.entry IS 'The path in the bundle of the file that is loaded first.';
COMMENT ON COLUMN flux.deployments.config IS 'Its flux.json with defaults filled in.';
COMMENT ON COLUMN flux.deployments.manifest IS '{path in the bundle: sha256}.';
COMMENT ON COLUMN flux.deployments.bundle IS 'A deterministic tar of the function''s files as they were.';
COMMENT ON COLUMN flux.deployments.engine IS 'Versions of what runs it: Flux, the guest, Deno or Python, V8, TypeScript, the platform.';
COMMENT ON COLUMN flux.deployments.git_commit IS 'The commit that was checked out; null outside of a repository.';
COMMENT ON COLUMN flux.deployments.git_dirty IS 'Whether files differed from that commit.';
