-- name: tick
-- One tick: what is committed now, and where the mutations' numbers stand. Losing the last ones in a crash loses nothing else.
INSERT INTO flux.ticks (node, n) SELECT $1, last_value FROM flux.mutation_order

-- name: complete_truncations
-- Nearly always there is none.
SELECT flux.complete_truncations() WHERE EXISTS (SELECT FROM flux.epochs WHERE pending IS NOT NULL)
