-- Figures of the tables beside the candidates, checked before publication: see hmamba/quality/tables.py. eligible_items:
-- as for the candidates; denied_items: item_index of items that rules remove for everybody. $part, $items, $events and
-- $candidates: Parquet files.

-- name: known_ids
CREATE OR REPLACE TEMP TABLE known_ids AS
SELECT item_id, item_index FROM read_parquet($items, hive_partitioning = false);

-- name: eligible_ids
CREATE OR REPLACE TEMP TABLE eligible_ids AS
SELECT item_id FROM known_ids SEMI JOIN eligible_items USING (item_index) ANTI JOIN denied_items USING (item_index);

-- name: rankings_of_similar_items
CREATE OR REPLACE TEMP TABLE ranked_rows AS
SELECT {'item': item_id, 'source': source} AS ranking, rank, score, similar_item_id AS target, file_row_number AS place
FROM read_parquet($part, file_row_number = true, hive_partitioning = false);

-- name: rankings_of_popular
CREATE OR REPLACE TEMP TABLE ranked_rows AS
SELECT
    {
        'segment_column': segment_column,
        'segment': segment,
        'category_level': category_level,
        'category_path': category_path,
        'ranking': ranking
    } AS ranking,
    rank, score, item_id AS target, file_row_number AS place
FROM read_parquet($part, file_row_number = true, hive_partitioning = false);

-- name: rankings_of_segments
CREATE OR REPLACE TEMP TABLE ranked_rows AS
SELECT item_id AS ranking, rank, score, user_id AS target, file_row_number AS place
FROM read_parquet($part, file_row_number = true, hive_partitioning = false);

-- name: rankings
-- Row numbers are distinct, so ranks that increase with them are distinct as well.
SELECT
    CAST(coalesce(sum(number), 0) AS BIGINT) AS rows,
    count(*) FILTER (WHERE lowest <> 1 OR highest <> number OR NOT together_in_order OR number > $k) AS rankings_with_wrong_ranks,
    CAST(coalesce(sum(number - targets), 0) AS BIGINT) AS rows_repeated
FROM (
    SELECT
        count(*) AS number,
        min(rank) AS lowest,
        max(rank) AS highest,
        min(rank - place) = max(rank - place) AS together_in_order,
        count(DISTINCT target) AS targets
    FROM ranked_rows
    GROUP BY ranking
);

-- name: ranked_scores
SELECT
    count(*) FILTER (WHERE NOT isfinite(score)) AS rows_with_infinite_score,
    count(*) FILTER (WHERE score > score_before) AS rows_with_rising_score
FROM (SELECT score, lag(score) OVER (PARTITION BY ranking ORDER BY place) AS score_before FROM ranked_rows);

-- name: similar_items
-- $sources: their names.
SELECT
    count(*) FILTER (
        WHERE item_id IS NULL OR source IS NULL OR rank IS NULL OR similar_item_id IS NULL OR score IS NULL
    ) AS rows_with_null,
    count(*) FILTER (WHERE NOT list_contains($sources, source)) AS rows_with_unknown_source,
    count(*) FILTER (WHERE item_id = similar_item_id) AS rows_with_itself,
    count(*) FILTER (WHERE item_id NOT IN (SELECT item_id FROM known_ids)) AS rows_with_unknown_item,
    count(*) FILTER (WHERE similar_item_id NOT IN (SELECT item_id FROM eligible_ids)) AS rows_with_ineligible_item
FROM read_parquet($part, hive_partitioning = false);

-- name: popular
-- $rankings: their names.
SELECT
    count(*) FILTER (
        WHERE category_level IS NULL OR category_path IS NULL OR ranking IS NULL OR rank IS NULL OR item_id IS NULL
        OR score IS NULL OR (segment_column IS NULL) <> (segment IS NULL)
    ) AS rows_with_null,
    count(*) FILTER (WHERE NOT list_contains($rankings, ranking)) AS rows_with_unknown_ranking,
    count(*) FILTER (WHERE category_level <> len(category_path)) AS rows_with_wrong_level,
    count(*) FILTER (WHERE score <= 0) AS rows_without_events,
    count(*) FILTER (WHERE item_id NOT IN (SELECT item_id FROM eligible_ids)) AS rows_with_ineligible_item
FROM read_parquet($part, hive_partitioning = false);

-- name: segments
SELECT
    count(*) FILTER (WHERE item_id IS NULL OR rank IS NULL OR user_id IS NULL OR score IS NULL) AS rows_with_null,
    count(*) FILTER (WHERE score > 1e-5) AS rows_above_certainty,
    count(*) FILTER (WHERE item_id NOT IN (SELECT item_id FROM eligible_ids)) AS rows_with_ineligible_item
FROM read_parquet($part, hive_partitioning = false);

-- name: segment_users
-- Of one shard. known_rows: rows with a user of the shard.
SELECT
    count(*) AS known_rows,
    count(*) FILTER (WHERE $exclude_seen AND list_contains(seen, i.item_index)) AS rows_with_seen_item
FROM read_parquet($part, hive_partitioning = false) AS s
INNER JOIN (
    SELECT user_id, list(item_index) FILTER (WHERE is_seen) AS seen
    FROM read_parquet($events, hive_partitioning = false)
    GROUP BY user_id
) AS e USING (user_id)
LEFT JOIN known_ids AS i ON s.item_id = i.item_id;

-- name: vectors
-- $dimensions, $K and $flat: the vector space. In flat space, the first coordinate of a point is the square of the others.
SELECT
    count(*) AS rows,
    count(*) FILTER (WHERE NOT is_whole) AS rows_with_null,
    count(*) FILTER (WHERE len(vector) <> $dimensions OR len(point) <> $dimensions - 1) AS rows_with_wrong_length,
    count(*) FILTER (
        WHERE NOT list_bool_and(list_transform(list_concat(point, vector), x -> isfinite(x)))
    ) AS rows_with_infinite_coordinate,
    count(*) FILTER (WHERE off > 1e-4 * (abs($K) + square)) AS rows_off_the_surface
FROM (
    SELECT
        point,
        vector,
        coalesce(list_count(point) = len(point) AND list_count(vector) = len(vector), false) AS is_whole,
        CASE WHEN is_whole THEN list_inner_product(CAST(point AS DOUBLE[]), CAST(point AS DOUBLE[])) END AS square,
        CAST(point[1] AS DOUBLE) AS first,
        abs(CASE WHEN $flat THEN square - first ** 2 - first ELSE square - 2 * first ** 2 + $K END) AS off
    FROM read_parquet($part, hive_partitioning = false)
);

-- name: item_vectors
SELECT
    count(*) - count(DISTINCT v.item_id) AS rows_repeated,
    count(*) FILTER (WHERE v.vector[1:len(v.point)] <> v.point) AS rows_with_other_vector,
    count(*) FILTER (WHERE e.item_id IS NULL) AS rows_with_ineligible_item,
    (SELECT count(*) FROM eligible_ids) - count(DISTINCT e.item_id) AS items_missing
FROM read_parquet($part, hive_partitioning = false) AS v
LEFT JOIN eligible_ids AS e ON v.item_id = e.item_id;

-- name: user_vectors
-- Of one shard. $fallback: the model_version of users with popular items, of whom the model knows nothing; $baseline: the
-- first characters of that of a baseline, which ranks for a control group.
SELECT
    count(v.user_id) - count(DISTINCT v.user_id) AS rows_repeated,
    count(*) FILTER (WHERE v.vector[-1] <> 1) AS rows_with_other_vector,
    count(*) FILTER (WHERE v.user_id IS NOT NULL AND e.user_id IS NULL) AS rows_with_unknown_user,
    count(*) FILTER (WHERE v.user_id IS NULL AND c.user_id IS NOT NULL) AS users_missing
FROM read_parquet($part, hive_partitioning = false) AS v
FULL OUTER JOIN (
    SELECT DISTINCT user_id FROM read_parquet($candidates, hive_partitioning = false) WHERE model_version <> $fallback AND NOT starts_with(model_version, $baseline)
) AS c USING (user_id)
LEFT JOIN (SELECT DISTINCT user_id FROM read_parquet($events, hive_partitioning = false)) AS e ON v.user_id = e.user_id;
