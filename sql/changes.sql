-- Users whose rows differ between two published tables: see hmamba/candidates/changes.py.

-- name: changed_users
-- Users of whom a row is in one table only, or differs in any column. Both have the same columns, and a user has one row
-- for each rank. $before, $after: parts of the tables; together they hold the same users, or all users.
SELECT
    coalesce(a.user_id, b.user_id) AS user_id,
    bool_and(a.user_id IS NULL) AS is_gone,
    bool_and(b.user_id IS NULL) AS is_new
FROM read_parquet($after, hive_partitioning = false) AS a
FULL JOIN read_parquet($before, hive_partitioning = false) AS b ON a.user_id = b.user_id AND a.rank = b.rank
GROUP BY ALL
HAVING bool_or(a IS DISTINCT FROM b)
ORDER BY user_id;

-- name: figures
-- Counts for the check of changed users. $changes: the table of them; $after: all parts of the new candidates.
WITH changes AS (SELECT * FROM read_parquet($changes, hive_partitioning = false)),

present AS (SELECT DISTINCT user_id FROM read_parquet($after, hive_partitioning = false) SEMI JOIN changes USING (user_id))

SELECT
    count(*) AS rows,
    count(*) FILTER (WHERE c.user_id IS NULL OR c.is_gone IS NULL) AS rows_with_null,
    count(c.user_id) - count(DISTINCT c.user_id) AS rows_with_repeated_user,
    count(*) FILTER (WHERE c.is_gone AND p.user_id IS NOT NULL) AS gone_users_with_rows,
    count(*) FILTER (WHERE NOT c.is_gone AND p.user_id IS NULL) AS changed_users_without_rows
FROM changes AS c
LEFT JOIN present AS p ON c.user_id = p.user_id;
