-- How often each item is recommended, most often first.
-- $candidates: Parquet parts; $items: the snapshot's items.
SELECT
    counted.item_id,
    coalesce(nullif(trim(items.title), ''), counted.item_id) AS title,
    counted.recommended
FROM (
    SELECT item_id, count(*) AS recommended
    FROM read_parquet($candidates)
    GROUP BY item_id
) AS counted
LEFT JOIN read_parquet($items) AS items USING (item_id)
ORDER BY counted.recommended DESC, counted.item_id
