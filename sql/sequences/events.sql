-- Events of numbered users, in the order of their numbers: shard by shard, and by id within one.
SELECT
    n.shard,
    e.user_id,
    i.item_index,
    e.event_time,
    e.weight,
    e.is_target,
    e.is_seen
FROM valued($end_time) AS e
INNER JOIN numbered AS n ON e.user_id = n.user_id
INNER JOIN items AS i ON e.item_id = i.item_id
ORDER BY n.number, e.event_time, i.item_index, e.event_type;
