-- chunk: JSON records as text. Of each, the members that are asked for, by JSON pointers, so that their names may hold
-- any character: what kind of value each is, and its text. A record that is no object has none, and is malformed.
SELECT
    __line AS line,
    CASE WHEN object IS NULL THEN coalesce(__malformed, __record) END AS malformed,
    json_type(coalesce(object, CAST('{}' AS JSON)), CAST($members AS VARCHAR[])) AS kinds,
    json_extract_string(coalesce(object, CAST('{}' AS JSON)), CAST($members AS VARCHAR[])) AS texts
FROM (
    SELECT *, CASE WHEN json_valid(__record) AND json_type(__record) = 'OBJECT' THEN CAST(__record AS JSON) END AS object
    FROM chunk
);
