-- chunk: interactions under the names of their roles; columns that a file does not have are null. $per_second: units of
-- a numeric time in a second, 0 where times are text or a time type.
-- Whole floating-point ids lose their .0: pandas writes it where a column has gaps.
INSERT INTO sampled
SELECT
    regexp_replace(CAST(user_id AS VARCHAR), '^(-?\d+)\.0$', '\1'),
    regexp_replace(CAST(item_id AS VARCHAR), '^(-?\d+)\.0$', '\1'),
    CASE
        WHEN $per_second > 0
            THEN TRY(make_timestamp(CAST(TRY_CAST(CAST(event_time AS VARCHAR) AS DOUBLE) / $per_second * 1e6 AS BIGINT)))
        ELSE TRY_CAST(CAST(event_time AS VARCHAR) AS TIMESTAMPTZ) AT TIME ZONE 'UTC'
    END,
    TRY_CAST(CAST(weight AS VARCHAR) AS DOUBLE),
    CAST(event_type AS VARCHAR)
FROM chunk;
