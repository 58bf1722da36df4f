-- The shard comes from MD5, so that it is the same on every machine and in every version of DuckDB.
SELECT
    CAST(CAST('0x' || left(md5(e.user_id), 8) AS BIGINT) % $shards AS INTEGER) AS shard,
    e.user_id,
    i.item_index,
    e.event_time,
    e.weight
FROM interactions AS e
INNER JOIN items AS i ON e.item_id = i.item_id
WHERE e.event_time < $end_time
ORDER BY shard, e.user_id, e.event_time, i.item_index;
