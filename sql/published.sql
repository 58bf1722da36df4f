-- Lookups in published tables: see hmamba/candidates/lookup.py.

-- name: of_user
-- The best candidates of one user. $files: the published parts; $user; $most.
SELECT rank, item_id, score, model_version
FROM read_parquet($files, hive_partitioning = false)
WHERE user_id = $user AND rank <= $most
ORDER BY rank;

-- name: similar_users
-- Published users with the ids most similar to an unknown id. $files: the published parts; $user; $most.
SELECT user_id
FROM (SELECT DISTINCT user_id FROM read_parquet($files, hive_partitioning = false))
ORDER BY jaro_winkler_similarity(user_id, $user) DESC, user_id
LIMIT $most;

-- name: first_user
-- A user of the published table, if possible one with candidates from the model. $files: the published parts;
-- $fallback: the model_version of users with popular items.
SELECT user_id
FROM (
    (SELECT user_id, 0 AS place FROM read_parquet($files, hive_partitioning = false) WHERE model_version <> $fallback LIMIT 1)
    UNION ALL
    (SELECT user_id, 1 AS place FROM read_parquet($files, hive_partitioning = false) LIMIT 1)
)
ORDER BY place
LIMIT 1;

-- name: items
-- Titles of items. $file: an items.parquet; $items: ids.
SELECT
    item_id,
    title,
    array_to_string(list_filter(category_path, lambda level: trim(level) <> ''), ' › ') AS category
FROM read_parquet($file, hive_partitioning = false)
WHERE list_contains($items, item_id);

-- name: index_of_item
-- $file: an items.parquet; $item: an id.
SELECT item_index, title FROM read_parquet($file, hive_partitioning = false) WHERE item_id = $item;

-- name: similar_items
-- Items with the ids most similar to an unknown id. $file: an items.parquet; $item; $most.
SELECT item_id
FROM read_parquet($file, hive_partitioning = false)
ORDER BY jaro_winkler_similarity(item_id, $item) DESC, item_id
LIMIT $most;

-- name: events_of_user
-- The newest events of one user in a snapshot, newest first. $shards: its shards; $items: its items.parquet; $user; $most.
SELECT
    e.event_time,
    i.item_id,
    i.title,
    array_to_string(list_filter(i.category_path, lambda level: trim(level) <> ''), ' › ') AS category,
    e.weight
FROM read_parquet($shards, hive_partitioning = false) AS e
INNER JOIN read_parquet($items, hive_partitioning = false) AS i ON e.item_index = i.item_index
WHERE e.user_id = $user
ORDER BY e.event_time DESC, i.item_id
LIMIT $most;
