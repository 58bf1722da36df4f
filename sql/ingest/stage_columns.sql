-- {weight} is any column where events carry no weight of their own.
INSERT INTO staged
SELECT
    $first + row_number() OVER () - 1,
    $file,
    __line,
    __malformed,
    nullif(CAST({user_id} AS VARCHAR), ''),
    nullif(CAST({item_id} AS VARCHAR), ''),
    read_time({event_time}, $time_format),
    CASE WHEN $weighted THEN TRY_CAST(CAST({weight} AS VARCHAR) AS DOUBLE) ELSE 1 END
FROM chunk;
