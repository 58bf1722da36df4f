-- Expressions of rules and checks of their results: see hmamba/rules/ and hmamba/quality/rules.py. Names that begin with
-- the_ are replaced.

-- name: forget_files
SET enable_external_access = false;

-- name: forget_python
SET python_enable_replacements = false;

-- name: set_zone
SET TimeZone = 'UTC';

-- name: lock
SET lock_configuration = true;

-- name: barred_functions
-- Aggregates, and functions whose result does not depend on their arguments alone.
SELECT DISTINCT function_name, function_type = 'aggregate' AS is_aggregate
FROM duckdb_functions()
WHERE
    function_type = 'aggregate'
    OR stability <> 'CONSISTENT'
    OR regexp_matches(function_name, '^(current_|local|age$)')
    OR regexp_matches(macro_definition, '(?i)current_|now\(');

-- name: parsed
SELECT CAST(json_serialize_sql($text) AS VARCHAR);

-- name: classes
SELECT code FROM (SELECT place, dense_rank() OVER (ORDER BY the_columns) - 1 AS code FROM classed) ORDER BY place;

-- name: create_lists
-- Ids that rules name: items, and users or pairs of users and items.
CREATE OR REPLACE TEMP TABLE rule_items (rule VARCHAR, item_id VARCHAR);

-- name: create_pairs
CREATE OR REPLACE TEMP TABLE rule_pairs (rule VARCHAR, user_id VARCHAR, item_id VARCHAR);

-- name: create_moment_of
-- A time in UTC. form: see hmamba/sources/times.py. Times without an offset are in the connection's time zone.
CREATE OR REPLACE TEMP MACRO moment_of(value, form) AS CASE form
    WHEN 'utc' THEN TRY_CAST(value AS TIMESTAMP)
    WHEN 'local' THEN TRY(CAST(TRY_CAST(value AS TIMESTAMP) AS TIMESTAMPTZ) AT TIME ZONE 'UTC')
    WHEN 'text' THEN TRY_CAST(value AS TIMESTAMPTZ) AT TIME ZONE 'UTC'
    ELSE TRY(make_timestamp(CAST(
        TRY_CAST(value AS DOUBLE) * CASE form WHEN 'epoch_s' THEN 1e6 WHEN 'epoch_ms' THEN 1e3 WHEN 'epoch_us' THEN 1 ELSE 1e-3 END
        AS BIGINT
    )))
END;

-- name: create_log
-- Rows of a file with times: a log of what was shown, or from when and until when items are available.
CREATE OR REPLACE TEMP TABLE rule_log (user_id VARCHAR, item_id VARCHAR, since TIMESTAMP, until TIMESTAMP);

-- name: stage_log
-- chunk: rows with their times as text; $since and $until: their forms.
INSERT INTO rule_log SELECT user_id, item_id, moment_of(since, $since), moment_of(until, $until) FROM chunk;

-- name: stage_items
INSERT INTO rule_items SELECT $rule, item_id FROM chunk WHERE item_id IS NOT NULL;

-- name: stage_pairs
INSERT INTO rule_pairs SELECT $rule, user_id, item_id FROM chunk WHERE user_id IS NOT NULL;

-- name: shown_often
-- Pairs of a user and an item that was shown $times times within the window that ends with the last time it was shown, which
-- was within the cool-down before the end of the day. Later rows are not read.
INSERT INTO rule_pairs
SELECT $rule, user_id, item_id
FROM (
    SELECT user_id, item_id, since, max(since) OVER (PARTITION BY user_id, item_id) AS last
    FROM rule_log
    WHERE since < $end_time AND user_id IS NOT NULL AND item_id IS NOT NULL
)
WHERE since > last - to_microseconds($window) AND last > $end_time - to_microseconds($cool_down)
GROUP BY user_id, item_id
HAVING count(*) >= $times;

-- name: unavailable
-- Items of which the file has rows, none of them at this time; and, if $missing, those without rows.
INSERT INTO rule_items
SELECT $rule, i.item_id
FROM snapshot_items AS i
LEFT JOIN (
    SELECT
        item_id,
        bool_or(coalesce(since <= $end_time, true) AND coalesce(until > $end_time, true)) AS is_available
    FROM rule_log
    GROUP BY item_id
) AS l ON i.item_id = l.item_id
WHERE NOT coalesce(l.is_available, NOT $missing);

-- name: unknown_items
-- Number of ids of each rule that are no items of the snapshot, of how many, and the first of them.
SELECT l.rule, count(*) FILTER (WHERE i.item_id IS NULL) AS unknown, count(*) AS ids, min(l.item_id) FILTER (WHERE i.item_id IS NULL) AS example
FROM (
    SELECT rule, item_id FROM rule_items UNION SELECT rule, item_id FROM rule_pairs WHERE item_id IS NOT NULL
) AS l
LEFT JOIN snapshot_items AS i ON l.item_id = i.item_id
GROUP BY l.rule
HAVING unknown > 0
ORDER BY l.rule;

-- name: items
SELECT l.rule, i.item_index
FROM (SELECT DISTINCT rule, item_id FROM rule_items) AS l
INNER JOIN snapshot_items AS i ON l.item_id = i.item_id
ORDER BY l.rule, i.item_index;

-- name: pairs
-- Users that rules name, by shard, and pairs with their item; pairs with an unknown item are left out.
SELECT shard_of(p.user_id, $shards) AS shard, p.user_id, p.rule, i.item_index
FROM (SELECT DISTINCT rule, user_id, item_id FROM rule_pairs) AS p
LEFT JOIN snapshot_items AS i ON p.item_id = i.item_id
WHERE p.item_id IS NULL OR i.item_id IS NOT NULL
ORDER BY shard, p.user_id, p.rule, i.item_index;

-- name: drop_forgotten
DELETE FROM rule_pairs WHERE sha256($salt || user_id) IN (SELECT user_hash FROM forgotten);

-- name: removed_rows
-- Rows of a part that a rule removes. Its condition is over c (the row), items, users and night.
SELECT count(*)
FROM part AS c
INNER JOIN items ON items.item_id = c.item_id
LEFT JOIN users ON users.user_id = c.user_id
CROSS JOIN night
WHERE the_condition;

-- name: rows_above
-- Rows above the number that a cap allows of a group. Items that are pinned for anybody are not counted.
SELECT coalesce(sum(greatest(number - $most, 0)), 0)
FROM (
    SELECT c.user_id, the_group AS kind, count(*) AS number
    FROM part AS c
    INNER JOIN items ON items.item_id = c.item_id
    CROSS JOIN night
    WHERE c.rank <= $top AND NOT list_contains(CAST($pins AS VARCHAR[]), c.item_id)
    GROUP BY ALL
)
WHERE kind IS NOT NULL;
