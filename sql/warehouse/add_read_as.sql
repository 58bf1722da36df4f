-- For warehouses of before 2026-11-28, which lack the column.
ALTER TABLE batch_files ADD COLUMN IF NOT EXISTS read_as VARCHAR;
