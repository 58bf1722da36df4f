-- {weight} is any column where events carry no weight of their own. $is_utc: times are UTC as they are; $is_number:
-- weights are numbers as they are. Otherwise values go through text, which takes any and costs several times as much.
INSERT INTO staged
SELECT
    $first + row_number() OVER () - 1,
    $file,
    __line,
    __malformed,
    nullif(CAST({user_id} AS VARCHAR), ''),
    nullif(CAST({item_id} AS VARCHAR), ''),
    CASE WHEN $is_utc THEN TRY_CAST({event_time} AS TIMESTAMP) ELSE read_time({event_time}, $time_format) END,
    CASE
        WHEN NOT $weighted THEN 1
        WHEN $is_number THEN TRY_CAST({weight} AS DOUBLE)
        ELSE TRY_CAST(CAST({weight} AS VARCHAR) AS DOUBLE)
    END
FROM chunk;
