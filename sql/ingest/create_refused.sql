-- A record that could not be read breaks only that rule: its columns were never there.
CREATE OR REPLACE TEMP TABLE refused AS
SELECT
    b.position,
    s.file,
    s.line,
    s.malformed,
    CASE WHEN any_value(s.malformed) IS NULL THEN list(b.rule ORDER BY b.rule) ELSE ['record_readable'] END AS rules
FROM broken AS b
INNER JOIN staged AS s ON b.position = s.position
GROUP BY b.position, s.file, s.line, s.malformed;
