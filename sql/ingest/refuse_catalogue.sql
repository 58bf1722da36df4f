-- A record that could not be read breaks only that rule. The comment stands for the conditions of
-- hmamba/quality/row_rules.py.
CREATE OR REPLACE TEMP TABLE refused AS
SELECT
    file,
    line,
    malformed,
    false AS undated,
    CASE WHEN malformed IS NULL THEN rules ELSE ['record_readable'] END AS rules
FROM (SELECT *, list_filter([/* rules */], rule -> rule IS NOT NULL) AS rules FROM catalogue)
WHERE len(rules) > 0;
