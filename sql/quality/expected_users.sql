-- How many candidates each user of a shard must have.
CREATE OR REPLACE TEMP TABLE expected_users AS
SELECT
    s.user_id,
    least(
        $k,
        (SELECT count(*) FROM eligible_items)
            - CASE WHEN $exclude_seen THEN count(DISTINCT e.item_index) FILTER (s.is_seen) ELSE 0 END
    ) AS candidates
FROM read_parquet($events) AS s
LEFT JOIN eligible_items AS e ON s.item_index = e.item_index
GROUP BY s.user_id;
