-- Size of the candidates. $candidates: Parquet parts.
SELECT
    count(*) AS total,
    count(DISTINCT user_id) AS users,
    coalesce(max(rank), 0) AS deepest
FROM read_parquet($candidates)
