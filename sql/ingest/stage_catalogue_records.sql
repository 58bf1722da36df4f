-- levels: JSON pointers of the path's members; a single member may hold a list.
INSERT INTO catalogue
SELECT
    $file,
    __line,
    CASE WHEN object IS NULL THEN coalesce(__malformed, __record) END,
    nullif(json_extract_string(object, $item_id), ''),
    CASE WHEN $titled THEN nullif(trim(json_extract_string(object, $title)), '') END,
    list_filter(
        list_transform(
            CASE
                WHEN json_type(object, CAST($levels AS VARCHAR[])[1]) = 'ARRAY'
                    THEN CAST(json_extract(object, CAST($levels AS VARCHAR[])[1]) AS VARCHAR[])
                ELSE json_extract_string(object, CAST($levels AS VARCHAR[]))
            END,
            level -> trim(level)
        ),
        level -> level <> ''
    )
FROM (
    SELECT *, CASE WHEN json_valid(__record) AND json_type(__record) = 'OBJECT' THEN CAST(__record AS JSON) END AS object
    FROM chunk
);
