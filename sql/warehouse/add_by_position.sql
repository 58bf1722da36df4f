-- For warehouses of before 2026-11-28, which lack the column; of their batches it is not known.
ALTER TABLE batches ADD COLUMN IF NOT EXISTS by_position BOOLEAN;
