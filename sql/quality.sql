-- The rules of staged rows, and the figures for the check of candidates before publication, shard by shard.

-- name: row_rules
-- One row for each rule that a staged row breaks. The comments are replaced by the conditions of
-- hmamba/quality/row_rules.py. $by_position: events are ordered by position; then $earliest and $latest are NULL.
-- $types: the configured event types; empty if the source has no types ($typed is false).
INSERT INTO broken
SELECT position, unnest(rules) AS rule
FROM (
    SELECT position, list_filter([/* rules */], rule -> rule IS NOT NULL) AS rules
    FROM staged
    WHERE position >= $first AND position < $past AND (/* any rule */ false)
);

-- name: eligible_items
-- Items in the index, and those of them that are allowed.
CREATE OR REPLACE TEMP TABLE eligible_items AS
SELECT DISTINCT item_index
FROM read_parquet($indexed, hive_partitioning = false)
WHERE $everything OR item_id IN (SELECT item_id FROM allowed);

-- name: expected_users
-- Required number of candidates for each user of a shard.
CREATE OR REPLACE TEMP TABLE expected_users AS
SELECT
    s.user_id,
    least(
        $k,
        (SELECT count(*) FROM eligible_items)
            - CASE WHEN $exclude_seen THEN count(DISTINCT e.item_index) FILTER (s.is_seen) ELSE 0 END
    ) AS candidates
FROM read_parquet($events, hive_partitioning = false) AS s
LEFT JOIN eligible_items AS e ON s.item_index = e.item_index
GROUP BY s.user_id;

-- name: expected_without_events
-- Adds the users of $users without events.
INSERT INTO expected_users
SELECT u.user_id, least($k, (SELECT count(*) FROM eligible_items))
FROM read_parquet($users, hive_partitioning = false) AS u
ANTI JOIN expected_users AS e ON u.user_id = e.user_id;

-- name: candidate_users
-- Row numbers are distinct, so ranks that increase with them are distinct as well.
CREATE OR REPLACE TEMP TABLE candidate_users AS
SELECT
    user_id,
    count(*) AS candidates,
    min(rank) AS lowest,
    max(rank) AS highest,
    min(rank - file_row_number) = max(rank - file_row_number) AS together_in_order,
    list_unique(list(item_id)) AS items
FROM read_parquet($part, file_row_number = true, hive_partitioning = false)
GROUP BY user_id;

-- name: candidate_rows
SELECT
    count(*) AS rows,
    list(DISTINCT model_version) FILTER (WHERE model_version <> $fallback) AS versions,
    count(*) FILTER (
        WHERE user_id IS NULL OR rank IS NULL OR item_id IS NULL OR score IS NULL OR model_version IS NULL
    ) AS rows_with_null,
    count(*) FILTER (WHERE NOT isfinite(score)) AS rows_with_infinite_score
FROM read_parquet($part, hive_partitioning = false);

-- name: user_figures
SELECT
    count(c.user_id) AS users,
    count(*) FILTER (WHERE e.candidates > 0) AS expected_users,
    count(*) FILTER (WHERE c.user_id IS NULL AND e.candidates > 0) AS users_missing,
    count(*) FILTER (WHERE e.user_id IS NULL) AS users_unknown,
    count(*) FILTER (WHERE c.candidates <> e.candidates) AS users_with_wrong_count,
    count(*) FILTER (WHERE c.candidates > e.candidates) AS users_with_more_rows,
    count(*) FILTER (WHERE coalesce(c.candidates, 0) < e.candidates) AS users_with_fewer_rows,
    count(*) FILTER (WHERE c.user_id IS NULL AND e.candidates > 0) AS users_without_rows,
    count(*) FILTER (
        WHERE c.lowest <> 1 OR c.highest <> c.candidates OR NOT c.together_in_order
    ) AS users_with_wrong_ranks,
    count(*) FILTER (WHERE c.items <> c.candidates) AS users_with_repeated_item
FROM candidate_users AS c
FULL OUTER JOIN expected_users AS e ON c.user_id = e.user_id;

-- name: rising_scores
-- A window without ORDER BY keeps the rows in file order, without a sort.
SELECT
    count(*) FILTER (WHERE user_id = user_before AND score > score_before) AS rows_with_rising_score,
    count(*) FILTER (WHERE user_id < user_before) AS rows_with_earlier_user
FROM (
    SELECT user_id, score, lag(user_id) OVER () AS user_before, lag(score) OVER () AS score_before
    FROM read_parquet($part, hive_partitioning = false)
);

-- name: unknown_items
SELECT count(*) AS rows_with_unknown_item
FROM read_parquet($part, hive_partitioning = false) AS c
ANTI JOIN read_parquet($items, hive_partitioning = false) AS i ON c.item_id = i.item_id
WHERE c.item_id IS NOT NULL;

-- name: seen_items
SELECT count(*) AS rows_with_seen_item
FROM read_parquet($part, hive_partitioning = false) AS c
INNER JOIN read_parquet($items, hive_partitioning = false) AS i ON c.item_id = i.item_id
SEMI JOIN (SELECT user_id, item_index FROM read_parquet($events, hive_partitioning = false) WHERE is_seen) AS s
    ON s.user_id = c.user_id AND s.item_index = i.item_index;

-- name: forbidden_items
SELECT count(*) AS rows_with_forbidden_item
FROM read_parquet($part, hive_partitioning = false) AS c
ANTI JOIN allowed AS a ON c.item_id = a.item_id;

-- name: reasons
-- $reasons: the known kinds of evidence.
SELECT
    count(*) FILTER (WHERE because IS NULL OR NOT list_contains($reasons, because)) AS rows_with_unknown_reason,
    count(*) FILTER (WHERE because_item IS NOT NULL AND s.user_id IS NULL) AS rows_with_foreign_reason
FROM read_parquet($part, hive_partitioning = false) AS c
LEFT JOIN read_parquet($items, hive_partitioning = false) AS i ON c.because_item = i.item_id
LEFT JOIN (SELECT DISTINCT user_id, item_index FROM read_parquet($events, hive_partitioning = false)) AS s
    ON s.user_id = c.user_id AND s.item_index = i.item_index;

-- name: groups
-- $salt, $limit: the hash of a user of the control group is below the limit; $control: the version of that group.
WITH users AS (
    SELECT
        user_id,
        min(experiment) AS first_group,
        max(experiment) AS last_group,
        count(*) FILTER (WHERE experiment IS NULL) AS without_group,
        CASE
            WHEN CAST('0x' || left(sha256($salt || ':' || user_id), 13) AS BIGINT) < $limit THEN 'control'
            ELSE 'treatment'
        END AS expected,
        count(*) FILTER (WHERE experiment = 'control' AND model_version <> $control) AS wrong,
        list(DISTINCT model_version) FILTER (WHERE experiment <> 'control' AND model_version <> $fallback) AS versions
    FROM read_parquet($part, hive_partitioning = false)
    GROUP BY user_id
)
SELECT
    count(*) FILTER (
        WHERE without_group > 0 OR first_group <> expected OR last_group <> expected
    ) AS users_in_wrong_group,
    coalesce(sum(wrong), 0)::BIGINT AS rows_with_wrong_version,
    count(*) FILTER (WHERE expected = 'control') AS control_users,
    list_distinct(flatten(list(versions) FILTER (WHERE versions IS NOT NULL))) AS versions
FROM users;

-- name: distinct_items
-- $parts: the parts of all shards.
SELECT count(DISTINCT item_id) AS distinct_items FROM read_parquet($parts, hive_partitioning = false);
