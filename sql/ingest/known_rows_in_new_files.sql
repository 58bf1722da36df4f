-- A file that grew repeats its older rows by design: only files never seen before count.
SELECT count(*) AS rows
FROM staged AS s
SEMI JOIN known AS k USING (user_id, item_id, event_time, event_type, is_return)
ANTI JOIN refused AS r ON s.position = r.position
WHERE list_contains($new_files, s.file);
