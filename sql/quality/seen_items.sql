SELECT count(*) AS rows_with_seen_item
FROM read_parquet($part) AS c
INNER JOIN read_parquet($items) AS i ON c.item_id = i.item_id
SEMI JOIN (SELECT user_id, item_index FROM read_parquet($events) WHERE is_seen) AS s
    ON s.user_id = c.user_id AND s.item_index = i.item_index;
