-- first_line: of the first refused row, whose rules are given; it is not always readable.
SELECT
    file,
    count(*) AS refused,
    count(*) FILTER (WHERE undated) AS undated,
    min(line) AS first_line,
    arg_min(rules, line) AS rules,
    arg_min(malformed, line) AS malformed
FROM refused
GROUP BY file
ORDER BY file;
