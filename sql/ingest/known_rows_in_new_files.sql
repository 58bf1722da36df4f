-- A file that grew repeats its older rows by design: only files never seen before count.
SELECT count(*) AS rows
FROM staged AS s
SEMI JOIN known AS k ON s.user_id = k.user_id AND s.item_id = k.item_id AND s.event_time = k.event_time
ANTI JOIN refused AS r ON s.position = r.position
WHERE list_contains($new_files, s.file);
