-- Comparison of two published tables: see hmamba/candidates/compare.py.
-- $before, $now: Parquet files of the two tables; $first: number of items at the top of each list; $depth: number of
-- items that both lists can have.

-- name: create_user_changes
-- One row for each user of either table. rows_before, rows_now: length of the lists. *_first: entries among the first
-- items, of both tables, of the newer one, and whether the first one is the same; *_all: the same up to $depth.
-- correlation: Spearman's, of the order of the items that both lists have; NULL for fewer than two.
CREATE OR REPLACE TEMP TABLE user_changes (
    user_id VARCHAR,
    rows_before BIGINT,
    rows_now BIGINT,
    common_first BIGINT,
    now_first BIGINT,
    common_all BIGINT,
    now_all BIGINT,
    has_same_best BOOLEAN,
    correlation DOUBLE
);

-- name: user_changes
INSERT INTO user_changes
WITH matched AS (
    SELECT
        coalesce(before.user_id, now.user_id) AS user_id,
        before.rank AS rank_before,
        now.rank AS rank_now
    FROM read_parquet($before, hive_partitioning = false) AS before
    FULL OUTER JOIN read_parquet($now, hive_partitioning = false) AS now
        ON before.user_id = now.user_id AND before.item_id = now.item_id
),
ordered AS (
    SELECT
        user_id,
        row_number() OVER (PARTITION BY user_id ORDER BY rank_before) AS place_before,
        row_number() OVER (PARTITION BY user_id ORDER BY rank_now) AS place_now
    FROM matched
    WHERE rank_before IS NOT NULL AND rank_now IS NOT NULL
),
correlated AS (
    SELECT user_id, corr(place_before, place_now) AS correlation FROM ordered GROUP BY user_id HAVING count(*) > 1
)
SELECT
    matched.user_id,
    count(rank_before),
    count(rank_now),
    count(*) FILTER (WHERE rank_before <= $first AND rank_now <= $first),
    count(*) FILTER (WHERE rank_now <= $first),
    count(*) FILTER (WHERE rank_before <= $depth AND rank_now <= $depth),
    count(*) FILTER (WHERE rank_now <= $depth),
    coalesce(bool_or(rank_before = 1 AND rank_now = 1), false),
    any_value(correlation)
FROM matched
LEFT JOIN correlated ON matched.user_id = correlated.user_id
GROUP BY matched.user_id;

-- name: change_totals
-- Sums over user_changes. Sums over entries are of the users in both tables.
SELECT
    count(*) FILTER (WHERE rows_before > 0 AND rows_now > 0) AS users_in_both,
    count(*) FILTER (WHERE rows_before = 0) AS users_gained,
    count(*) FILTER (WHERE rows_now = 0) AS users_lost,
    count(*) FILTER (WHERE rows_before > 0 AND rows_now > rows_before) AS users_with_more_rows,
    count(*) FILTER (WHERE rows_now > 0 AND rows_now < rows_before) AS users_with_fewer_rows,
    coalesce(sum(now_first) FILTER (WHERE rows_before > 0), 0)::BIGINT AS entries_first,
    coalesce(sum(now_first - common_first) FILTER (WHERE rows_before > 0), 0)::BIGINT AS new_first,
    coalesce(sum(now_all) FILTER (WHERE rows_before > 0), 0)::BIGINT AS entries_all,
    coalesce(sum(now_all - common_all) FILTER (WHERE rows_before > 0), 0)::BIGINT AS new_all,
    count(*) FILTER (WHERE has_same_best) AS users_with_same_best,
    count(*) FILTER (
        WHERE common_first > 0 AND common_first = now_first AND common_first = least(rows_before, $first)
    ) AS users_with_same_first,
    avg(correlation) AS rank_correlation,
    count(correlation) AS users_correlated
FROM user_changes;

-- name: item_changes
-- Items by the number of users who have them among their first items now and had them before.
CREATE OR REPLACE TEMP TABLE item_changes AS
SELECT
    coalesce(before.item_id, now.item_id) AS item_id,
    coalesce(before.users, 0) AS users_before,
    coalesce(now.users, 0) AS users_now
FROM (
    SELECT item_id, count(*) AS users
    FROM read_parquet($before, hive_partitioning = false)
    WHERE rank <= $first
    GROUP BY item_id
) AS before
FULL OUTER JOIN (
    SELECT item_id, count(*) AS users
    FROM read_parquet($now, hive_partitioning = false)
    WHERE rank <= $first
    GROUP BY item_id
) AS now ON before.item_id = now.item_id;

-- name: most_changed_items
-- Items that most users gained ($sign = 1) or lost ($sign = -1).
SELECT item_id, users_before, users_now
FROM item_changes
WHERE $sign * (users_now - users_before) > 0
ORDER BY $sign * (users_now - users_before) DESC, item_id
LIMIT $most;

-- name: distinct_items
-- $files: the parts of one table.
SELECT count(DISTINCT item_id) AS items FROM read_parquet($files, hive_partitioning = false);

-- name: users_by_change
-- The users at some places ($places, from 0) in the order of their new items among the first ones, most first. Users
-- with as many are in an order that says nothing about them.
SELECT user_id, new_items
FROM (
    SELECT
        user_id,
        now_first - common_first AS new_items,
        row_number() OVER (ORDER BY now_first - common_first DESC, md5(user_id), user_id) - 1 AS place
    FROM user_changes
    WHERE rows_before > 0 AND rows_now > 0
)
WHERE list_contains($places, place)
ORDER BY place;

-- name: list_of_user
-- The first items of one user. $files: the parts of one table; $user; $most.
SELECT item_id
FROM read_parquet($files, hive_partitioning = false)
WHERE user_id = $user AND rank <= $most
ORDER BY rank;
