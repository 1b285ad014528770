-- Statements that a function's session sends for Flux itself, on the function's connection.

-- name: push_job
SELECT id, duplicate FROM flux.push_job($1, $2, $3, $4, $5, $6, $7, $8)
