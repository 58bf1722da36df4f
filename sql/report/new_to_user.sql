-- How many recommendations are items that their user has never had.
-- $candidates: Parquet parts; $shards: the snapshot's sequences; $items: the snapshot's items.
SELECT count(*) AS total
FROM read_parquet($candidates) AS candidates
WHERE NOT EXISTS (
    SELECT 1
    FROM read_parquet($shards) AS events
    INNER JOIN read_parquet($items) AS items USING (item_index)
    WHERE events.user_id = candidates.user_id AND items.item_id = candidates.item_id
)
