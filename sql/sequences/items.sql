-- first_seen and events count only what happened before the end: nothing of the future leaks in.
SELECT
    i.item_index,
    i.item_id,
    coalesce(i.title, i.item_id) AS title,
    coalesce(i.category_path, []) AS category_path,
    min(e.event_time) AS first_seen,
    count(*) AS events
FROM items AS i
INNER JOIN interactions AS e ON i.item_id = e.item_id
WHERE e.event_time < $end_time
GROUP BY ALL
ORDER BY i.item_index;
