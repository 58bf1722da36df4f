-- A part of the time, one row an event. Of copies inside the batch the largest weight stays, of returns the most
-- negative: it does not depend on the order of files.
INSERT INTO interactions (user_id, item_id, event_time, event_type, weight, batch_id, loaded_at)
SELECT
    s.user_id,
    s.item_id,
    s.event_time,
    s.event_type,
    CAST(CASE WHEN s.is_return THEN min(s.weight) ELSE max(s.weight) END AS FLOAT),
    $batch_id,
    $loaded_at
FROM staged AS s
ANTI JOIN refused AS r ON s.position = r.position
ANTI JOIN (
    SELECT user_id, item_id, event_time, event_type, is_return
    FROM known
    WHERE event_time >= $oldest AND event_time <= $newest
) AS k USING (user_id, item_id, event_time, event_type, is_return)
WHERE s.event_time >= $oldest AND s.event_time <= $newest
GROUP BY s.user_id, s.item_id, s.event_time, s.event_type, s.is_return
ORDER BY s.event_time, s.user_id, s.item_id, s.event_type, s.is_return;
