-- Whether a row belongs to a later day than is processed: it stays in its file. Rows from refused_from on are nonsense, and
-- are refused instead.
CREATE OR REPLACE TEMP MACRO is_left(event_time, past, refused_from) AS
    coalesce(event_time >= past AND event_time < refused_from, false);
