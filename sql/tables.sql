-- Tables beside the candidates: see hmamba/tables/.

-- name: create_popular
-- Counts of items by segment, over all shards. decayed and slow are sums of 2^(-age / half-life) in units of 2^-32: sums
-- of integers do not depend on the order of their parts, so a table that is written again has the same bytes.
CREATE OR REPLACE TEMP TABLE popular_counts (
    segment_column VARCHAR, segment VARCHAR, item_index INTEGER, in_window BIGINT, decayed HUGEINT, slow HUGEINT
);

-- name: count_popular
-- Adds one shard. members: user_id and segment; $everyone: all users are counted, and members are not read. $shard: the
-- shard's events; $segment_column; $end_time: end of the snapshot; $window_days; $half_life_days; $slow_days.
INSERT INTO popular_counts
SELECT
    $segment_column,
    segment,
    item_index,
    count(*) FILTER (WHERE age < $window_days),
    sum(CAST(round(pow(2, -age / $half_life_days) * 4294967296) AS BIGINT)),
    sum(CAST(round(pow(2, -age / $slow_days) * 4294967296) AS BIGINT))
FROM (
    SELECT
        e.item_index,
        CASE WHEN $everyone THEN NULL ELSE m.segment END AS segment,
        (epoch_us(CAST($end_time AS TIMESTAMP)) - epoch_us(e.event_time)) / 86400000000 AS age
    FROM read_parquet($shard, hive_partitioning = false) AS e
    LEFT JOIN members AS m ON e.user_id = m.user_id
    WHERE e.is_target AND e.weight > 0 AND ($everyone OR m.segment IS NOT NULL)
)
GROUP BY segment, item_index;

-- name: popular
-- The rankings. Level 0 of the categories holds all items, level 1 those of each widest category, and so on down each
-- item's path. eligible: item_index of the items that may be recommended. $items: the snapshot's items; $k; $smoothing.
-- The trend of an item is (decayed + smoothing) / (expected + smoothing), where expected is what decayed would be if the
-- item had kept its share of the group.
WITH counts AS (
    SELECT
        segment_column,
        segment,
        item_index,
        CAST(sum(in_window) AS DOUBLE) AS in_window,
        sum(decayed) AS decayed,
        sum(slow) AS slow
    FROM popular_counts
    GROUP BY segment_column, segment, item_index
),

placed AS (
    SELECT
        c.segment_column,
        c.segment,
        CAST(level AS INTEGER) AS category_level,
        i.category_path[1:level] AS category_path,
        i.item_id,
        c.in_window,
        CAST(c.decayed AS DOUBLE) / 4294967296 AS decayed,
        CAST(c.slow AS DOUBLE) / 4294967296 AS slow,
        CAST(sum(c.decayed) OVER of_group AS DOUBLE) / CAST(sum(c.slow) OVER of_group AS DOUBLE) AS trend
    FROM counts AS c
    INNER JOIN eligible USING (item_index)
    INNER JOIN read_parquet($items, hive_partitioning = false) AS i USING (item_index)
    CROSS JOIN unnest(range(0, len(i.category_path) + 1)) AS levels (level)
    WHERE level = 0 OR trim(i.category_path[level]) <> ''
    WINDOW of_group AS (PARTITION BY c.segment_column, c.segment, i.category_path[1:level])
),

ranked AS (
    SELECT * EXCLUDE (in_window, decayed, slow, trend), 'window' AS ranking, in_window AS score, decayed AS then_by
    FROM placed
    WHERE in_window > 0
    UNION ALL
    SELECT * EXCLUDE (in_window, decayed, slow, trend), 'decayed', decayed, in_window
    FROM placed
    WHERE decayed > 0
    UNION ALL
    SELECT
        * EXCLUDE (in_window, decayed, slow, trend),
        'trending',
        (decayed + $smoothing) / (slow * trend + $smoothing) AS score,
        decayed
    FROM placed
    WHERE decayed > slow * trend
)

SELECT
    segment_column,
    segment,
    category_level,
    category_path,
    ranking,
    CAST(row_number() OVER by_score AS INTEGER) AS rank,
    item_id,
    score
FROM ranked
WINDOW by_score AS (
    PARTITION BY segment_column, segment, category_level, category_path, ranking
    ORDER BY score DESC, then_by DESC, item_id
)
QUALIFY row_number() OVER by_score <= $k
ORDER BY segment_column NULLS FIRST, segment NULLS FIRST, category_level, category_path, ranking, rank;

-- name: merge_segments
-- The best users of each item among the best of all shards. $parts: the shards' parts, whose ranks are those within the
-- shard; $k.
SELECT item_id, CAST(row_number() OVER by_score AS INTEGER) AS rank, user_id, score
FROM read_parquet($parts, hive_partitioning = false)
WINDOW by_score AS (PARTITION BY item_id ORDER BY score DESC, user_id)
QUALIFY row_number() OVER by_score <= $k
ORDER BY item_id, row_number() OVER by_score;
