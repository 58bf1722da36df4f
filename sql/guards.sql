-- Figures of the guards on a table before it is published, and of two tables: see hmamba/quality/guards.py and
-- hmamba/report/changes.py.
-- $parts: Parquet files of the new table; $earlier: those of the table before with the same users; $first: the number of
-- items of each list that are compared.

-- name: churn
-- Entries among the first items of users in both tables, and how many of them were not there before.
WITH now AS (
    SELECT user_id, item_id FROM read_parquet($parts, hive_partitioning = false) WHERE rank <= $first
),
before AS (
    SELECT user_id, item_id FROM read_parquet($earlier, hive_partitioning = false) WHERE rank <= $first
)
SELECT
    count(DISTINCT now.user_id) AS users,
    count(*) AS entries,
    count(*) FILTER (WHERE before.item_id IS NULL) AS new_entries
FROM now
SEMI JOIN before AS known ON now.user_id = known.user_id
LEFT JOIN before ON now.user_id = before.user_id AND now.item_id = before.item_id;

-- name: users_lost
-- Users of the table before, and how many of them have no rows now. Every list has a first rank.
SELECT
    count(*) AS users_before,
    count(*) FILTER (WHERE now.user_id IS NULL) AS users_lost
FROM (SELECT user_id FROM read_parquet($earlier, hive_partitioning = false) WHERE rank = 1) AS before
LEFT JOIN (SELECT user_id FROM read_parquet($parts, hive_partitioning = false) WHERE rank = 1) AS now
    ON before.user_id = now.user_id;

-- name: top_item
-- The item that most users have among their first items. No row if the table is empty.
SELECT item_id, count(*) AS users
FROM read_parquet($parts, hive_partitioning = false)
WHERE rank <= $first
GROUP BY item_id
ORDER BY users DESC, item_id
LIMIT 1;

-- name: eligible
-- Number of items that may be recommended, of the table that quality/eligible_items makes.
SELECT count(*) AS items FROM eligible_items;
