-- The whole histories of changed users, as sequences/events has those of everybody.
SELECT
    shard_of(e.user_id, $shards) AS shard,
    e.user_id,
    i.item_index,
    e.event_time,
    e.weight,
    e.is_target,
    e.is_seen
FROM valued($end_time) AS e
SEMI JOIN changed AS c ON e.user_id = c.user_id
INNER JOIN items AS i ON e.item_id = i.item_id
ORDER BY shard, e.user_id, e.event_time, i.item_index, e.event_type;
