SELECT count(*) AS rows_with_unknown_item
FROM read_parquet($part) AS c
ANTI JOIN read_parquet($items) AS i ON c.item_id = i.item_id
WHERE c.item_id IS NOT NULL;
