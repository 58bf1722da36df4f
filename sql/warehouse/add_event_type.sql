-- Warehouses that were made before events had types.
ALTER TABLE interactions ADD COLUMN IF NOT EXISTS event_type VARCHAR DEFAULT '';
