SELECT count(*) AS rows_with_forbidden_item
FROM read_parquet($part) AS c
ANTI JOIN allowed AS a ON c.item_id = a.item_id;
