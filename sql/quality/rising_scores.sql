SELECT count(*) AS rows_with_rising_score
FROM (
    SELECT score > lag(score) OVER (PARTITION BY user_id ORDER BY rank) AS rises
    FROM read_parquet($parts)
)
WHERE rises;
