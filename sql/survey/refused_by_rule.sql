-- Refused rows by the rule that they break, and the first of each.
SELECT rule, count(*) AS rows, arg_min(file, position) AS file, arg_min(line, position) AS line
FROM (SELECT unnest(rules) AS rule, file, line, position FROM refused)
GROUP BY rule
ORDER BY rows DESC, rule;
