-- Events of a part that the warehouse has: they are never rewritten. Its rows lie about in the order of time, so that
-- the bounds, those of the part, spare what lies outside of them from being read.
INSERT INTO known
SELECT i.user_id, i.item_id, i.event_time, i.event_type, i.weight < 0
FROM interactions AS i
SEMI JOIN (
    SELECT user_id, item_id, event_time, event_type, is_return
    FROM staged
    WHERE event_time >= $oldest AND event_time <= $newest
) AS s
    ON
        i.user_id = s.user_id AND i.item_id = s.item_id AND i.event_time = s.event_time
        AND i.event_type = s.event_type AND (i.weight < 0) = s.is_return
WHERE i.event_time >= $oldest AND i.event_time <= $newest;
