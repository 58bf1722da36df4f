SELECT
    count(*) AS rows,
    count(DISTINCT item_id) AS distinct_items,
    count(DISTINCT model_version) FILTER (WHERE model_version <> $fallback) AS model_versions,
    coalesce(min(model_version) FILTER (WHERE model_version <> $fallback), $fallback) AS model_version,
    count(*) FILTER (
        WHERE user_id IS NULL OR rank IS NULL OR item_id IS NULL OR score IS NULL OR model_version IS NULL
    ) AS rows_with_null,
    count(*) FILTER (WHERE NOT isfinite(score)) AS rows_with_infinite_score
FROM read_parquet($parts);
