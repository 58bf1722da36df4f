-- Events of items by segment of users: see hmamba/sequences/segments.py. Events are targets with a positive weight.

-- name: create_items
CREATE OR REPLACE TEMP TABLE segment_items (segment_column VARCHAR, segment VARCHAR, item_index INTEGER, events BIGINT);

-- name: create_users
CREATE OR REPLACE TEMP TABLE segment_users (segment_column VARCHAR, segment VARCHAR, users BIGINT);

-- name: count_items
-- Adds one shard. members: user_id and segment. $segment_column; $shard: the shard's events.
INSERT INTO segment_items
SELECT $segment_column, m.segment, e.item_index, count(*)
FROM read_parquet($shard, hive_partitioning = false) AS e
INNER JOIN members AS m ON e.user_id = m.user_id
WHERE e.is_target AND e.weight > 0 AND m.segment IS NOT NULL
GROUP BY m.segment, e.item_index;

-- name: count_users
-- As count_items.
INSERT INTO segment_users
SELECT $segment_column, m.segment, count(DISTINCT e.user_id)
FROM read_parquet($shard, hive_partitioning = false) AS e
INNER JOIN members AS m ON e.user_id = m.user_id
WHERE e.is_target AND e.weight > 0 AND m.segment IS NOT NULL
GROUP BY m.segment;

-- name: large
-- The segments with at least $min_users users.
SELECT i.segment_column, i.segment, u.users, i.item_index, i.events
FROM (
    SELECT segment_column, segment, item_index, CAST(sum(events) AS BIGINT) AS events
    FROM segment_items
    GROUP BY segment_column, segment, item_index
) AS i
INNER JOIN (
    SELECT segment_column, segment, CAST(sum(users) AS BIGINT) AS users
    FROM segment_users
    GROUP BY segment_column, segment
) AS u ON i.segment_column = u.segment_column AND i.segment = u.segment
WHERE u.users >= $min_users
ORDER BY i.segment_column, i.segment, i.item_index;
