-- Events before a moment as the model takes them: weights after returns, by the scale and type that [events] says.
-- meanings: a row for each type. A weight of 0 is an event that was seen and not wanted; returns are no events.
CREATE OR REPLACE TEMP MACRO meant(end_time) AS TABLE
SELECT
    user_id, item_id, event_time, event_type,
    CAST(factor * CASE WHEN linear THEN units ELSE least(log2(1 + units), 4) END AS FLOAT) AS weight,
    is_target AND (least_target IS NULL OR units >= least_target) AS is_target,
    is_seen
FROM (
    SELECT e.user_id, e.item_id, e.event_time, e.event_type, coalesce(b.weight, e.weight) AS units, m.* EXCLUDE (event_type)
    FROM interactions AS e
    INNER JOIN meanings AS m ON e.event_type = m.event_type
    LEFT JOIN taken_back AS b
        ON e.user_id = b.user_id AND e.item_id = b.item_id AND e.event_time = b.event_time AND e.event_type = b.event_type
    WHERE e.event_time < end_time AND e.weight >= 0
);
