-- Rows that break each rule, and the first of them.
SELECT rule, count(*) AS rows, arg_min(file, position) AS file, arg_min(line, position) AS line
FROM broken
INNER JOIN staged USING (position)
GROUP BY rule
ORDER BY rows DESC, rule;
