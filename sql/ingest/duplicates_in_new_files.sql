-- A file that grew repeats its older rows by design: only files never seen before count.
-- Only events that were known are joined: of a first pull there is none.
SELECT
    count(*) FILTER (WHERE r.position IS NULL AND e.known) AS known,
    count(*) AS rows
FROM staged AS s
LEFT JOIN refused AS r ON s.position = r.position
LEFT JOIN (SELECT user_id, item_id, event_time, known FROM events WHERE known) AS e
    ON s.user_id = e.user_id AND s.item_id = e.item_id AND s.event_time = e.event_time
WHERE list_contains($new_files, s.file);
