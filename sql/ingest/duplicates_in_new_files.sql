-- A file that grew repeats its older rows by design: only files never seen before count.
SELECT
    count(*) FILTER (WHERE r.position IS NULL AND e.known) AS known,
    count(*) AS rows
FROM staged AS s
LEFT JOIN refused AS r ON s.position = r.position
LEFT JOIN events AS e ON s.user_id = e.user_id AND s.item_id = e.item_id AND s.event_time = e.event_time
WHERE list_contains($new_files, s.file);
