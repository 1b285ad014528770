TRUNCATE public.by_row
INSERT INTO public.by_row SELECT g, 'hello ' || g, g, g, now(), true, 'text', g, g FROM generate_series(1, 300) g
BEGIN
SET LOCAL flux.ctx = 'c0ffee00c0ffee00c0ffee00c0ffee00|2026-11-23'
UPDATE public.by_row SET b = b + 1
COMMIT
SELECT pg_sleep(0)
BEGIN
SET LOCAL flux.ctx = 'c0ffee00c0ffee00c0ffee00c0ffee00|2026-11-23'
UPDATE public.by_row SET b = b + 1
COMMIT
SELECT pg_backend_pid()
