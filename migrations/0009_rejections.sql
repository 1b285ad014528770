-- Rejected requests above so many a second are recorded together: one row stands for `count` of them.

ALTER TABLE flux.executions ADD COLUMN count bigint NOT NULL DEFAULT 1;
COMMENT ON COLUMN flux.executions.count IS
    'How many requests this row stands for: 1, or more where rejections of one second were recorded together. Count with sum(count).';
