-- Rows of a published table for deliveries: see hmamba/delivery/table.py. $part: one file; $top: only ranks up to this one;
-- $everyone: all users, or only those of the table wanted.

-- name: create_wanted
CREATE OR REPLACE TEMP TABLE wanted AS
SELECT user_id FROM read_parquet($changes, hive_partitioning = false);

-- name: rows
SELECT *
FROM read_parquet($part, hive_partitioning = false)
WHERE rank <= $top AND ($everyone OR user_id IN (SELECT user_id FROM wanted));

-- name: number_of_rows
SELECT count(*) FROM read_parquet($parts, hive_partitioning = false) WHERE rank <= $top;

-- name: lines
-- One JSON object for each row. Scores are written as text does it, not with the digits of a double.
SELECT CAST(to_json(p) AS VARCHAR) AS line
FROM (
    SELECT * REPLACE (CAST(CAST(score AS VARCHAR) AS JSON) AS score)
    FROM read_parquet($part, hive_partitioning = false)
    WHERE rank <= $top
) AS p;

-- name: items_of_users
-- A JSON list of item ids for each user, best first.
SELECT user_id, CAST(to_json(list(item_id ORDER BY rank)) AS VARCHAR) AS value
FROM read_parquet($part, hive_partitioning = false)
WHERE rank <= $top AND ($everyone OR user_id IN (SELECT user_id FROM wanted))
GROUP BY user_id
ORDER BY user_id;

-- name: rows_of_users
-- A JSON list of objects for each user, best first: all columns but the user.
SELECT user_id, CAST(to_json(list(json_merge_patch(to_json(p), '{"user_id": null}') ORDER BY rank)) AS VARCHAR) AS value
FROM (
    SELECT * REPLACE (CAST(CAST(score AS VARCHAR) AS JSON) AS score)
    FROM read_parquet($part, hive_partitioning = false)
    WHERE rank <= $top AND ($everyone OR user_id IN (SELECT user_id FROM wanted))
) AS p
GROUP BY user_id
ORDER BY user_id;
