-- Every table and view of `flux`, in the order in which they were made, a row per column: what the comments say, the column's type in
-- words of SQL, and (the same in each row of a table) its partitioning, keys, checks and indexes.
SELECT c.oid AS relation, c.relname AS name, obj_description(c.oid, 'pg_class') AS meaning,
       a.attname AS "column", col_description(c.oid, a.attnum) AS of_column,
       format('`%s`', format_type(a.atttypid, a.atttypmod))
       || CASE WHEN a.attnotnull THEN ' not null' ELSE '' END
       || CASE WHEN a.attidentity <> '' THEN ', identity' ELSE '' END
       || coalesce(', default `' || pg_get_expr(d.adbin, d.adrelid) || '`', '') AS type,
       coalesce((SELECT array_agg(k.line ORDER BY k.rank, k.line) FROM (
           SELECT 0 AS rank, format('Partitioned by `%s`.', pg_get_partkeydef(c.oid)) AS line WHERE c.relkind = 'p'
           UNION ALL
           SELECT CASE o.contype WHEN 'p' THEN 1 WHEN 'u' THEN 2 ELSE 3 END, format('`%s`', pg_get_constraintdef(o.oid))
           FROM pg_constraint o WHERE o.conrelid = c.oid AND o.contype IN ('p', 'u', 'f', 'c')
           UNION ALL
           SELECT 4, format('`%s`', regexp_replace(pg_get_indexdef(i.indexrelid), '^CREATE (.*) ON (ONLY )?flux\.\w+ USING btree ', '\1 '))
           FROM pg_index i WHERE i.indrelid = c.oid AND NOT EXISTS (SELECT FROM pg_constraint o WHERE o.conindid = i.indexrelid)
       ) k), '{}') AS keys
FROM pg_class c
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE c.relnamespace = 'flux'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition
ORDER BY c.oid, a.attnum
