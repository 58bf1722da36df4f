SELECT
    count(*) AS rows,
    list(DISTINCT model_version) FILTER (WHERE model_version <> $fallback) AS versions,
    count(*) FILTER (
        WHERE user_id IS NULL OR rank IS NULL OR item_id IS NULL OR score IS NULL OR model_version IS NULL
    ) AS rows_with_null,
    count(*) FILTER (WHERE NOT isfinite(score)) AS rows_with_infinite_score
FROM read_parquet($part);
