-- Events that are not the first of their user and item. Copies at the same time are one event. $types: what counts, if
-- $typed.
SELECT count(*) AS events, count(*) - count(DISTINCT (user_id, item_id)) AS repeats
FROM (
    SELECT DISTINCT user_id, item_id, event_time
    FROM staged
    WHERE user_id IS NOT NULL AND item_id IS NOT NULL AND (NOT $typed OR list_contains($types, event_type))
);
