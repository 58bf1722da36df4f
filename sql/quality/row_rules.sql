-- One row for each rule that a staged row breaks. The comments stand for the conditions of hmamba/quality/row_rules.py.
-- $by_position: positions stand in the place of times. $earliest, $latest: NULL where they do. $types: the event types
-- that have a meaning; none where the source has no types ($typed).
INSERT INTO broken
SELECT position, unnest(rules) AS rule
FROM (
    SELECT position, list_filter([/* rules */], rule -> rule IS NOT NULL) AS rules
    FROM staged
    WHERE position >= $first AND position < $past AND (/* any rule */ false)
);
