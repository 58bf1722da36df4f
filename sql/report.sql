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

-- name: item_drift
-- Number of events in two periods of the $most items with the most events in both; all others under the name null.
-- $shards: the snapshot's sequences; $items: its items; $from_time, $split_time: start of the periods.
WITH counted AS (
    SELECT
        item_index,
        count(*) FILTER (event_time < $split_time) AS earlier,
        count(*) FILTER (event_time >= $split_time) AS recent
    FROM read_parquet($shards, hive_partitioning = false)
    WHERE event_time >= $from_time
    GROUP BY item_index
),
placed AS (
    SELECT *, row_number() OVER (ORDER BY earlier + recent DESC, item_index) AS place FROM counted
)
SELECT
    if(place <= $most, coalesce(nullif(trim(items.title), ''), items.item_id), null) AS name,
    sum(earlier)::BIGINT AS earlier,
    sum(recent)::BIGINT AS recent
FROM placed
INNER JOIN read_parquet($items, hive_partitioning = false) AS items USING (item_index)
GROUP BY name, if(place <= $most, place, null)
ORDER BY min(place);

-- name: category_drift
-- The same of the widest categories.
WITH counted AS (
    SELECT
        coalesce(nullif(trim(items.category_path[1]), ''), '(no category)') AS category,
        count(*) FILTER (event_time < $split_time) AS earlier,
        count(*) FILTER (event_time >= $split_time) AS recent
    FROM read_parquet($shards, hive_partitioning = false)
    INNER JOIN read_parquet($items, hive_partitioning = false) AS items USING (item_index)
    WHERE event_time >= $from_time
    GROUP BY category
),
placed AS (
    SELECT *, row_number() OVER (ORDER BY earlier + recent DESC, category) AS place FROM counted
)
SELECT
    if(place <= $most, category, null) AS name,
    sum(earlier)::BIGINT AS earlier,
    sum(recent)::BIGINT AS recent
FROM placed
GROUP BY name
ORDER BY min(place);

-- name: history_drift
-- Number of users who were active in two periods, by the number of their events up to the end of that period.
-- $bands: smallest number of events of each band, ascending.
WITH histories AS (
    SELECT
        count(*) FILTER (event_time < $split_time) AS events_before,
        count(*) AS events,
        count(*) FILTER (event_time >= $from_time AND event_time < $split_time) AS earlier,
        count(*) FILTER (event_time >= $split_time) AS recent
    FROM read_parquet($shards, hive_partitioning = false)
    GROUP BY user_id
)
SELECT
    band,
    count(*) FILTER (period = 'earlier') AS earlier,
    count(*) FILTER (period = 'recent') AS recent
FROM (
    SELECT list_max(list_filter($bands::BIGINT[], band -> band <= events_before)) AS band, 'earlier' AS period
    FROM histories
    WHERE earlier > 0
    UNION ALL
    SELECT list_max(list_filter($bands::BIGINT[], band -> band <= events)), 'recent'
    FROM histories
    WHERE recent > 0
)
GROUP BY band
ORDER BY band;

-- name: example_users
-- Users with candidates and a new, a long or a short history, $most of each kind in the order of a hash of their ids.
-- $new_time: a user whose first event is at that time or later is new; null if events have no times.
WITH histories AS (
    SELECT user_id, count(*) AS events, min(event_time) AS first_time
    FROM read_parquet($shards, hive_partitioning = false)
    SEMI JOIN (
        SELECT user_id FROM read_parquet($candidates, hive_partitioning = false) WHERE rank = 1
    ) USING (user_id)
    GROUP BY user_id
),
lengths AS (
    SELECT quantile_disc(events, 0.1) AS short, quantile_disc(events, 0.9) AS long FROM histories
)
SELECT
    user_id,
    events,
    CASE
        WHEN first_time >= $new_time THEN 'new'
        WHEN events >= long AND long > short THEN 'long'
        WHEN events <= $short OR (events <= short AND short < long) THEN 'short'
    END AS kind
FROM histories
CROSS JOIN lengths
WHERE kind IS NOT NULL
QUALIFY row_number() OVER (PARTITION BY kind ORDER BY md5(user_id), user_id) <= $most
ORDER BY kind, md5(user_id), user_id;

-- name: example_histories
-- The items of some users' histories, latest first, $depth of each user. times: number of events of the item.
SELECT
    user_id,
    coalesce(nullif(trim(any_value(items.title)), ''), any_value(items.item_id)) AS title,
    coalesce(array_to_string(any_value(items.category_path[1:2]), ' › '), '') AS category,
    count(*) AS times,
    max(event_time) AS latest
FROM read_parquet($shards, hive_partitioning = false) AS events
INNER JOIN read_parquet($items, hive_partitioning = false) AS items USING (item_index)
WHERE user_id IN (SELECT unnest($users))
GROUP BY user_id, item_index
QUALIFY row_number() OVER (PARTITION BY user_id ORDER BY latest DESC, times DESC, item_index) <= $depth
ORDER BY user_id, latest DESC, times DESC, item_index;

-- name: example_candidates
-- The first $depth candidates of some users. is_known: whether the item is in the user's history.
SELECT
    candidates.user_id,
    candidates.model_version,
    coalesce(nullif(trim(items.title), ''), candidates.item_id) AS title,
    coalesce(array_to_string(items.category_path[1:2], ' › '), '') AS category,
    EXISTS (
        SELECT 1
        FROM read_parquet($shards, hive_partitioning = false) AS events
        WHERE events.user_id = candidates.user_id AND events.item_index = items.item_index
    ) AS is_known
FROM read_parquet($candidates, hive_partitioning = false) AS candidates
LEFT JOIN read_parquet($items, hive_partitioning = false) AS items USING (item_id)
WHERE candidates.user_id IN (SELECT unnest($users)) AND candidates.rank <= $depth
ORDER BY candidates.user_id, candidates.rank;
