-- A window over nothing goes through the rows as they lie in the file, without sorting them.
SELECT
    count(*) FILTER (WHERE user_id = user_before AND score > score_before) AS rows_with_rising_score,
    count(*) FILTER (WHERE user_id < user_before) AS rows_with_earlier_user
FROM (
    SELECT user_id, score, lag(user_id) OVER () AS user_before, lag(score) OVER () AS score_before
    FROM read_parquet($part)
);
