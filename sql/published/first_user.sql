-- A user of the published table, one that the model has served if there is any. $files: the published parts;
-- $fallback: the model_version of users who got the popular items.
SELECT user_id
FROM (
    (SELECT user_id, 0 AS place FROM read_parquet($files) WHERE model_version <> $fallback LIMIT 1)
    UNION ALL
    (SELECT user_id, 1 AS place FROM read_parquet($files) LIMIT 1)
)
ORDER BY place
LIMIT 1
