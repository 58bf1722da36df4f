-- The most popular items with their Lorentz points.
-- $vectors: the items' points; $items: the snapshot's items.
SELECT
    vectors.point,
    coalesce(nullif(trim(items.title), ''), vectors.item_id) AS title,
    coalesce(nullif(trim(items.category_path[1]), ''), '(no category)') AS department,
    coalesce(items.events, 0) AS events
FROM read_parquet($vectors) AS vectors
LEFT JOIN read_parquet($items) AS items USING (item_id)
ORDER BY events DESC, vectors.item_index
LIMIT $most
