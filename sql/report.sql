-- The figures of the report: see hmamba/report/statistics.py.

-- name: row_count
-- $file: a Parquet file.
SELECT count(*) AS rows FROM read_parquet($file, hive_partitioning = false);

-- name: candidate_totals
-- Size of the candidates. $candidates: Parquet parts.
SELECT
    count(*) AS rows,
    count(DISTINCT user_id) AS users,
    coalesce(max(rank), 0) AS k
FROM read_parquet($candidates, hive_partitioning = false);

-- name: recommended_items
-- Number of recommendations per item, in descending order.
-- $candidates: Parquet parts; $items: the snapshot's items.
SELECT
    counted.item_id,
    coalesce(nullif(trim(items.title), ''), counted.item_id) AS title,
    counted.recommended
FROM (
    SELECT item_id, count(*) AS recommended
    FROM read_parquet($candidates, hive_partitioning = false)
    GROUP BY item_id
) AS counted
LEFT JOIN read_parquet($items, hive_partitioning = false) AS items USING (item_id)
ORDER BY counted.recommended DESC, counted.item_id;

-- name: categories
-- Share of recommendations and share of events per category (two widest levels), most recommended first.
-- $candidates: Parquet parts; $items: the snapshot's items.
WITH counted AS (
    SELECT item_id, count(*) AS recommended
    FROM read_parquet($candidates, hive_partitioning = false)
    GROUP BY item_id
),
labelled AS (
    SELECT
        coalesce(
            nullif(array_to_string(list_filter(category_path[1:2], lambda level: trim(level) <> ''), ' › '), ''),
            '(no category)'
        ) AS category,
        coalesce(counted.recommended, 0) AS recommended,
        items.events
    FROM read_parquet($items, hive_partitioning = false) AS items
    LEFT JOIN counted USING (item_id)
)
SELECT
    category AS name,
    sum(recommended) / greatest((SELECT sum(recommended) FROM labelled), 1) AS of_recommendations,
    sum(events) / greatest((SELECT sum(events) FROM labelled), 1) AS of_events
FROM labelled
GROUP BY category
HAVING sum(recommended) > 0
ORDER BY of_recommendations DESC, name
LIMIT $most;

-- name: new_to_user
-- Number of recommendations of items that their user has never interacted with.
-- $candidates: Parquet parts; $shards: the snapshot's sequences; $items: the snapshot's items.
SELECT count(*) AS rows
FROM read_parquet($candidates, hive_partitioning = false) AS candidates
WHERE NOT EXISTS (
    SELECT 1
    FROM read_parquet($shards, hive_partitioning = false) AS events
    INNER JOIN read_parquet($items, hive_partitioning = false) AS items USING (item_index)
    WHERE events.user_id = candidates.user_id AND items.item_id = candidates.item_id
);

-- name: disk
-- The most popular items with their Lorentz points.
-- $vectors: the items' points; $items: the snapshot's items.
SELECT
    vectors.point,
    coalesce(nullif(trim(items.title), ''), vectors.item_id) AS title,
    coalesce(nullif(trim(items.category_path[1]), ''), '(no category)') AS department,
    coalesce(items.events, 0) AS events
FROM read_parquet($vectors, hive_partitioning = false) AS vectors
LEFT JOIN read_parquet($items, hive_partitioning = false) AS items USING (item_id)
ORDER BY events DESC, vectors.item_index
LIMIT $most;
