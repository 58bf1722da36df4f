-- chunk: events as hmamba/warehouse/staging.py reads them from any kind of file. $form: what event_time holds, see
-- hmamba/sources/times.py. Times without an offset are in the connection's time zone. Numbers of seconds, milliseconds
-- and microseconds are rounded to microseconds; of nanoseconds what is finer is cut off, as it is for time types.
INSERT INTO staged
SELECT
    position,
    $file,
    line,
    malformed,
    CAST(user_id AS VARCHAR),
    CAST(item_id AS VARCHAR),
    CASE $form
        WHEN 'utc' THEN TRY_CAST(event_time AS TIMESTAMP)
        WHEN 'local' THEN TRY(CAST(TRY_CAST(event_time AS TIMESTAMP) AS TIMESTAMPTZ) AT TIME ZONE 'UTC')
        WHEN 'text' THEN TRY_CAST(CAST(event_time AS VARCHAR) AS TIMESTAMPTZ) AT TIME ZONE 'UTC'
        ELSE TRY(make_timestamp(CAST(
            CASE $form
                WHEN 'epoch_s' THEN round(number * CAST(1000000 AS DECIMAL(7, 0)))
                WHEN 'epoch_ms' THEN round(number * CAST(1000 AS DECIMAL(4, 0)))
                WHEN 'epoch_us' THEN round(number)
                ELSE floor(number * CAST(0.001 AS DECIMAL(4, 3)))
            END AS BIGINT
        )))
    END,
    CAST(event_type AS VARCHAR),
    strength,
    coalesce(TRY_CAST(strength AS FLOAT) < 0, false),
    coalesce(user_unreadable, false),
    coalesce(item_unreadable, false)
FROM (
    SELECT
        *,
        TRY_CAST(weight AS DOUBLE) AS strength,
        CASE WHEN $form LIKE 'epoch%' THEN TRY_CAST(CAST(event_time AS VARCHAR) AS DECIMAL(28, 9)) END AS number
    FROM chunk
);
