-- Share of recommendations and share of all events of each category (its two widest levels), most recommended first.
-- $candidates: Parquet parts; $items: the snapshot's items.
WITH counted AS (
    SELECT item_id, count(*) AS recommended
    FROM read_parquet($candidates)
    GROUP BY item_id
),
labelled AS (
    SELECT
        coalesce(
            nullif(array_to_string(list_filter(category_path[1:2], lambda level: trim(level) <> ''), ' › '), ''),
            '(no category)'
        ) AS category,
        coalesce(counted.recommended, 0) AS recommended,
        items.events
    FROM read_parquet($items) AS items
    LEFT JOIN counted USING (item_id)
)
SELECT
    category,
    sum(recommended) / greatest((SELECT sum(recommended) FROM labelled), 1) AS of_recommendations,
    sum(events) / greatest((SELECT sum(events) FROM labelled), 1) AS of_events
FROM labelled
GROUP BY category
HAVING sum(recommended) > 0
ORDER BY of_recommendations DESC, category
LIMIT $most
