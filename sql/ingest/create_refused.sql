-- A record that could not be read breaks only that rule: its columns were never there. undated: the row belongs to no day,
-- since it has no readable time, or one from $refused_from on.
CREATE OR REPLACE TEMP TABLE refused AS
SELECT
    b.position,
    s.file,
    s.line,
    s.malformed,
    coalesce(s.event_time >= $refused_from, true) AS undated,
    CASE WHEN any_value(s.malformed) IS NULL THEN list(b.rule ORDER BY b.rule) ELSE ['record_readable'] END AS rules
FROM broken AS b
INNER JOIN staged AS s ON b.position = s.position
GROUP BY ALL;
