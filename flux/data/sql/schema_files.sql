-- name: applied_files
SELECT name, sha256, applied_at FROM flux.schema_files ORDER BY name

-- name: keep_file
INSERT INTO flux.schema_files (name, sha256, content) VALUES ($1, $2, $3)
