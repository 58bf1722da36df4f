-- Items that enough events touch to be learnt. $least: the default of train.min_item_events; $types: what counts, if
-- $typed.
SELECT count(*) AS items
FROM (
    SELECT item_id
    FROM staged
    WHERE NOT $typed OR list_contains($types, event_type)
    GROUP BY item_id
    HAVING count(*) >= $least
);
