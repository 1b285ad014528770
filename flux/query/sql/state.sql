-- name: table_columns
-- The columns of a table, as it is now, with the position of each in the primary key (null: not part of it).
SELECT n.nspname AS schema_name, c.relname AS table_name, a.attname AS name,
       format_type(a.atttypid, a.atttypmod) AS type, format_type(a.atttypid, -1) AS plain_type,
       array_position(i.indkey::smallint[], a.attnum) AS key_position
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary
WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p')
ORDER BY a.attnum

-- name: canonical
-- For the transaction: values are written as the capture writes them.
SELECT set_config('TimeZone', 'UTC', true), set_config('DateStyle', 'ISO', true), set_config('IntervalStyle', 'postgres', true),
       set_config('extra_float_digits', '1', true), set_config('bytea_output', 'hex', true), set_config('xmlbinary', 'base64', true)

-- name: tables
-- Tables a person may have meant: the user's own.
SELECT CASE WHEN n.nspname = 'public' THEN c.relname ELSE n.nspname || '.' || c.relname END AS name
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
  AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'flux') AND n.nspname !~ '^pg_'
ORDER BY 1
LIMIT 200

-- name: recorded_key
-- The latest key recorded for a table that is no longer there: its shape says how to read one.
SELECT key::text FROM flux.mutations
WHERE schema_name = $1 AND table_name = $2 AND key IS NOT NULL AND NOT key ? '$md5'
ORDER BY n DESC
LIMIT 1

-- name: mutations_of_keys
-- What was done to rows under these keys, with the host calls that may have done it. A key too long for an index is filed as
-- its md5.
SELECT m.request_id, m.day, m.n, m.xid::text, m.schema_name, m.table_name, m.op, m.key::text, m.before::text, m.after::text,
       m.at, m.origin, m.actor, m.application_name, m.rolled_back, m.cut, coalesce(m.seq, h.seq) AS seq, h.span_id,
       CASE WHEN m.before IS NOT NULL THEN (SELECT jsonb_object_agg(c, m.before -> c) FROM unnest($4::text[]) AS c) END::text AS old_key,
       CASE WHEN m.after IS NOT NULL THEN (SELECT jsonb_object_agg(c, m.after -> c) FROM unnest($4::text[]) AS c) END::text AS new_key
FROM flux.mutations m
LEFT JOIN LATERAL (
    SELECT c.seq, c.span_id
    FROM flux.host_calls c
    WHERE c.request_id = m.request_id AND c.day = m.day
      AND (c.seq = m.seq OR (m.seq IS NULL AND m.n BETWEEN c.first_n AND c.last_n AND (c.xid IS NULL OR c.xid = m.xid)))
    ORDER BY c.seq
    LIMIT 1
) h ON m.origin <> 'outside'
WHERE m.schema_name = $1 AND m.table_name = $2
  AND m.key = ANY (ARRAY(SELECT flux.key_of(k, ARRAY(SELECT jsonb_object_keys(k))) FROM unnest($3::text[]::jsonb[]) AS k))
  -- What the index is on.
  AND m.row_hash = ANY (ARRAY(
      SELECT jsonb_hash_extended(flux.key_of(k, ARRAY(SELECT jsonb_object_keys(k))), 0) FROM unnest($3::text[]::jsonb[]) AS k))
ORDER BY m.n

-- name: moves_of_keys
-- Updates that moved a row from or to one of these keys, by whichever of the two it was filed.
SELECT m.request_id, m.day, m.n, m.xid::text, m.schema_name, m.table_name, m.op, m.key::text, m.before::text, m.after::text,
       m.at, m.origin, m.actor, m.application_name, m.rolled_back, m.cut, coalesce(m.seq, h.seq) AS seq, h.span_id,
       CASE WHEN m.before IS NOT NULL THEN (SELECT jsonb_object_agg(c, m.before -> c) FROM unnest($4::text[]) AS c) END::text AS old_key,
       CASE WHEN m.after IS NOT NULL THEN (SELECT jsonb_object_agg(c, m.after -> c) FROM unnest($4::text[]) AS c) END::text AS new_key
FROM flux.mutations m
LEFT JOIN LATERAL (
    SELECT c.seq, c.span_id
    FROM flux.host_calls c
    WHERE c.request_id = m.request_id AND c.day = m.day
      AND (c.seq = m.seq OR (m.seq IS NULL AND m.n BETWEEN c.first_n AND c.last_n AND (c.xid IS NULL OR c.xid = m.xid)))
    ORDER BY c.seq
    LIMIT 1
) h ON m.origin <> 'outside'
WHERE m.schema_name = $1 AND m.table_name = $2 AND m.moved
  AND (m.before @> ANY ($3::text[]::jsonb[]) OR m.after @> ANY ($3::text[]::jsonb[]))
ORDER BY m.n
