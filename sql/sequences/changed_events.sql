-- The whole histories of users with events that a snapshot does not hold, as sequences/events has those of everybody.
SELECT
    CAST(CAST('0x' || left(md5(e.user_id), 8) AS BIGINT) % $shards AS INTEGER) AS shard,
    e.user_id,
    i.item_index,
    e.event_time,
    e.weight
FROM interactions AS e
INNER JOIN items AS i ON e.item_id = i.item_id
SEMI JOIN (
    SELECT user_id
    FROM interactions
    WHERE event_time < $end_time AND (event_time >= $held_time OR batch_id > $held_batch)
) AS c ON e.user_id = c.user_id
WHERE e.event_time < $end_time
ORDER BY shard, e.user_id, e.event_time, i.item_index;
