ALTER TABLE interactions ALTER COLUMN event_type SET NOT NULL;
