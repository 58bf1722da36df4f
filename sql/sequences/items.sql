-- first_seen and events count only what happened before the end: nothing of the future leaks in. events: those that are
-- targets and have not been taken back whole.
SELECT
    i.item_index,
    i.item_id,
    coalesce(i.title, i.item_id) AS title,
    coalesce(i.category_path, []) AS category_path,
    e.first_seen,
    e.events
FROM items AS i
INNER JOIN (
    SELECT item_id, min(event_time) AS first_seen, count(*) FILTER (is_target AND weight > 0) AS events
    FROM valued($end_time)
    GROUP BY item_id
) AS e ON i.item_id = e.item_id
ORDER BY i.item_index;
