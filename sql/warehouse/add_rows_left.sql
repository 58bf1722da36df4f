-- For warehouses of before 2026-11-27, which lack the column.
ALTER TABLE batches ADD COLUMN IF NOT EXISTS rows_left BIGINT DEFAULT 0;
