-- Names of members are JSON pointers, so that they may hold any character.
INSERT INTO staged
SELECT
    $first + row_number() OVER () - 1,
    $file,
    __line,
    CASE WHEN object IS NULL THEN coalesce(__malformed, __record) END,
    nullif(json_extract_string(object, $user_id), ''),
    nullif(json_extract_string(object, $item_id), ''),
    read_time(json_extract_string(object, $event_time), $time_format),
    CASE WHEN $weighted THEN TRY_CAST(json_extract_string(object, $weight) AS DOUBLE) ELSE 1 END
FROM (
    SELECT *, CASE WHEN json_valid(__record) AND json_type(__record) = 'OBJECT' THEN CAST(__record AS JSON) END AS object
    FROM chunk
);
