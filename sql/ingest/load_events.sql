-- A part of the time, one row an event. Of copies inside the batch the largest weight stays: it does not depend on the
-- order of files.
INSERT INTO interactions (user_id, item_id, event_time, weight, batch_id, loaded_at)
SELECT s.user_id, s.item_id, s.event_time, CAST(max(s.weight) AS FLOAT), $batch_id, $loaded_at
FROM staged AS s
ANTI JOIN refused AS r ON s.position = r.position
ANTI JOIN (
    SELECT user_id, item_id, event_time FROM known WHERE event_time >= $oldest AND event_time <= $newest
) AS k ON s.user_id = k.user_id AND s.item_id = k.item_id AND s.event_time = k.event_time
WHERE s.event_time >= $oldest AND s.event_time <= $newest
GROUP BY s.user_id, s.item_id, s.event_time
ORDER BY s.event_time, s.user_id, s.item_id;
