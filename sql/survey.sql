-- Survey of files that have not been ingested: see hmamba/survey/. The tables staged and refused are those of a pull.

-- name: profile
-- Profile of the values of one column. chunk: the column, named value. $null_words: texts that mean an absent value.
SELECT
    count(*) AS rows,
    count(value) AS present,
    count(DISTINCT value) AS distinct_values,
    count(number) AS numbers,
    count(*) FILTER (WHERE number = floor(number)) AS whole_numbers,
    quantile_disc(number, 0.5) AS middle,
    count(TRY_CAST(value AS TIMESTAMPTZ)) AS times,
    count(*) FILTER (WHERE regexp_full_match(value, '.*(Z|UTC|[+-]\d\d(:?\d\d)?)') AND contains(value, ':')) AS offsets,
    count(*) FILTER (number IS NULL AND TRY_CAST(value AS TIMESTAMPTZ) IS NULL AND value IS NOT NULL) AS strange_values,
    first(value) FILTER (number IS NULL AND TRY_CAST(value AS TIMESTAMPTZ) IS NULL AND value IS NOT NULL) AS strange,
    first(value) AS example
FROM (
    SELECT value, CASE WHEN isfinite(TRY_CAST(value AS DOUBLE)) THEN CAST(value AS DOUBLE) END AS number
    FROM (
        SELECT CASE WHEN NOT list_contains($null_words, text) THEN text END AS value
        FROM (SELECT trim(CAST(value AS VARCHAR)) AS text FROM chunk)
    )
);

-- name: staged_figures
-- $timed: whether event_time is a time and not a position. $latest: later events are treated as invalid. $earliest: the
-- default of quality.min_time. Times on 1970-01-01 come from clocks that were never set.
SELECT
    count(DISTINCT user_id) AS users,
    count(DISTINCT item_id) AS items,
    min(event_time) FILTER (NOT at_zero) AS oldest,
    max(event_time) FILTER (event_time < $latest) AS newest,
    count(*) FILTER (event_time >= $latest) AS after,
    count(*) FILTER (event_time < $earliest AND NOT at_zero) AS before,
    count(*) FILTER (at_zero) AS at_zero,
    min(weight) AS smallest_weight,
    max(weight) AS largest_weight
FROM (
    SELECT
        user_id,
        item_id,
        CASE WHEN $timed THEN event_time END AS event_time,
        coalesce($timed AND event_time >= TIMESTAMP '1970-01-01' AND event_time < TIMESTAMP '1970-01-02', false) AS at_zero,
        weight
    FROM staged
);

-- name: types
SELECT event_type, count(*) AS events FROM staged WHERE event_type <> '' GROUP BY event_type ORDER BY events DESC, event_type;

-- name: repeats
-- Events that are not the first of their user and item. Duplicates at the same time are one event. $types: the counted
-- event types, if $typed.
SELECT count(*) AS events, count(*) - count(DISTINCT (user_id, item_id)) AS repeats
FROM (
    SELECT DISTINCT user_id, item_id, event_time
    FROM staged
    WHERE user_id IS NOT NULL AND item_id IS NOT NULL AND (NOT $typed OR list_contains($types, event_type))
);

-- name: items
-- $types: the counted event types, if $typed.
SELECT count(DISTINCT item_id) AS items FROM staged WHERE NOT $typed OR list_contains($types, event_type);

-- name: typical_user
-- Events of the median user with two or more. $types: the counted event types, if $typed.
SELECT coalesce(median(events), 0) AS events
FROM (
    SELECT count(*) AS events
    FROM staged
    WHERE user_id IS NOT NULL AND (NOT $typed OR list_contains($types, event_type))
    GROUP BY user_id
    HAVING count(*) > 1
);

-- name: matching_items
-- Overlap of ids in possible catalogue files with the items and users of the events, for each of $files and for all
-- together (file is NULL). chunk: file, id.
WITH items AS (SELECT DISTINCT item_id AS id FROM staged WHERE item_id IS NOT NULL),
users AS (SELECT DISTINCT user_id AS id FROM staged WHERE user_id IS NOT NULL)
SELECT
    file,
    count(*) AS rows,
    count(DISTINCT id) AS ids,
    (SELECT count(*) FROM items) AS items,
    (SELECT count(*) FROM users) AS users,
    count(DISTINCT id) FILTER (id IN (FROM items)) AS named_items,
    count(DISTINCT id) FILTER (id IN (FROM users)) AS named_users
FROM chunk
WHERE list_contains($files, file)
GROUP BY GROUPING SETS ((file), ())
ORDER BY file NULLS FIRST;

-- name: refused_by_rule
-- Number of refused rows per broken rule, with the first row of each.
SELECT rule, count(*) AS rows, arg_min(file, position) AS file, arg_min(line, position) AS line
FROM (SELECT unnest(rules) AS rule, file, line, position FROM refused)
GROUP BY rule
ORDER BY rows DESC, rule;
