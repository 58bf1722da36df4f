INSERT INTO interactions
SELECT user_id, item_id, event_time, CAST(weight AS FLOAT), $batch_id, $loaded_at
FROM events
WHERE NOT known
ORDER BY event_time, user_id, item_id;
