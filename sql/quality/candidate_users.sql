CREATE OR REPLACE TEMP TABLE candidate_users AS
SELECT
    user_id,
    count(*) AS candidates,
    min(rank) AS lowest,
    max(rank) AS highest,
    count(DISTINCT rank) AS ranks,
    count(DISTINCT item_id) AS items
FROM read_parquet($parts)
GROUP BY user_id;
