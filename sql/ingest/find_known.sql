-- Rows of a part whose event the warehouse has: events are never rewritten. A row without a type, in the warehouse or in the
-- part, is of before or after the source had a column for it, and is an event of any type. The warehouse's rows lie about
-- in the order of time, so that the bounds, those of the part, spare what lies outside of them from being read.
INSERT INTO known
SELECT s.user_id, s.item_id, s.event_time, s.event_type, s.is_return
FROM interactions AS i
INNER JOIN staged AS s
    ON
        i.user_id = s.user_id AND i.item_id = s.item_id AND i.event_time = s.event_time
        AND (i.weight < 0) = s.is_return
WHERE
    i.event_time >= $oldest AND i.event_time <= $newest
    AND s.event_time >= $oldest AND s.event_time <= $newest
    AND (i.event_type = s.event_type OR i.event_type = '' OR s.event_type = '');
