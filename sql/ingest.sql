-- A pull before its merge: stage files, delete staged rows of later days, refuse rows that break a rule.

-- name: set_time_zone
-- Zone of times without an offset. Tables contain naive UTC and do not depend on it.
SET TimeZone = $zone;

-- name: create_staged
-- The batch before it is checked. Values that cannot be converted are NULL. Created and dropped in the transaction of the
-- pull: not a temporary table, since DuckDB keeps those uncompressed in memory. position: from 0 over all files; rowid is
-- not stable before a commit. is_return: the weight is negative.
CREATE OR REPLACE TABLE staged (
    position BIGINT,
    file INTEGER,
    line BIGINT,
    malformed VARCHAR,
    user_id VARCHAR,
    item_id VARCHAR,
    event_time TIMESTAMP,
    event_type VARCHAR,
    weight DOUBLE,
    is_return BOOLEAN,
    user_unreadable BOOLEAN,
    item_unreadable BOOLEAN
);

-- name: record_keys
-- Names of members of JSON objects, for messages.
SELECT DISTINCT name
FROM (
    SELECT unnest(json_keys(__record)) AS name
    FROM chunk
    WHERE CASE WHEN json_valid(__record) THEN json_type(__record) = 'OBJECT' ELSE false END
    LIMIT 1000
)
ORDER BY name;

-- name: pick_members
-- chunk: JSON records as text. Returns kind and text of the requested members of each record; JSON pointers allow any
-- character in names. A record that is not an object has no members and is malformed.
SELECT
    __line AS line,
    CASE WHEN object IS NULL THEN coalesce(__malformed, __record) END AS malformed,
    json_type(coalesce(object, CAST('{}' AS JSON)), CAST($members AS VARCHAR[])) AS kinds,
    json_extract_string(coalesce(object, CAST('{}' AS JSON)), CAST($members AS VARCHAR[])) AS texts
FROM (
    SELECT *, CASE WHEN json_valid(__record) AND json_type(__record) = 'OBJECT' THEN CAST(__record AS JSON) END AS object
    FROM chunk
);

-- name: stage_events
-- chunk: events from files of any format, see hmamba/warehouse/staging.py. $form: representation of event_time, see
-- hmamba/sources/times.py. Times without an offset are in the connection's time zone. Numbers of seconds, milliseconds
-- and microseconds are rounded to microseconds; nanoseconds are truncated to microseconds, as for time types.
INSERT INTO staged
SELECT
    position,
    $file,
    line,
    malformed,
    CAST(user_id AS VARCHAR),
    CAST(item_id AS VARCHAR),
    CASE $form
        WHEN 'utc' THEN TRY_CAST(event_time AS TIMESTAMP)
        WHEN 'local' THEN TRY(CAST(TRY_CAST(event_time AS TIMESTAMP) AS TIMESTAMPTZ) AT TIME ZONE 'UTC')
        WHEN 'text' THEN TRY_CAST(CAST(event_time AS VARCHAR) AS TIMESTAMPTZ) AT TIME ZONE 'UTC'
        ELSE TRY(make_timestamp(CAST(
            CASE $form
                WHEN 'epoch_s' THEN round(number * CAST(1000000 AS DECIMAL(7, 0)))
                WHEN 'epoch_ms' THEN round(number * CAST(1000 AS DECIMAL(4, 0)))
                WHEN 'epoch_us' THEN round(number)
                ELSE floor(number * CAST(0.001 AS DECIMAL(4, 3)))
            END AS BIGINT
        )))
    END,
    CAST(event_type AS VARCHAR),
    strength,
    coalesce(TRY_CAST(strength AS FLOAT) < 0, false),
    coalesce(user_unreadable, false),
    coalesce(item_unreadable, false)
FROM (
    SELECT
        *,
        TRY_CAST(weight AS DOUBLE) AS strength,
        CASE WHEN $form LIKE 'epoch%' THEN TRY_CAST(CAST(event_time AS VARCHAR) AS DECIMAL(28, 9)) END AS number
    FROM chunk
);

-- name: is_left
-- Whether a row belongs to a day after the processed day and stays in its file. Rows from refused_from on are refused
-- instead.
CREATE OR REPLACE TEMP MACRO is_left(event_time, past, refused_from) AS
    coalesce(event_time >= past AND event_time < refused_from, false);

-- name: was_considered
-- Whether an earlier pull has considered a row. start: end of the last day whose rows in the file were considered; NULL
-- if the file has not been read before.
CREATE OR REPLACE TEMP MACRO was_considered(event_time, start, refused_from) AS
    start IS NOT NULL AND coalesce(event_time < start OR event_time >= refused_from, true);

-- name: create_windows
-- Bounds of the rows to consider in each file; see the macros is_left and was_considered.
CREATE OR REPLACE TEMP TABLE windows AS
SELECT
    unnest(CAST($files AS INTEGER[])) AS file,
    unnest(CAST($starts AS TIMESTAMP[])) AS start,
    unnest(CAST($refused_from AS TIMESTAMP[])) AS refused_from;

-- name: rows_by_window
SELECT
    s.file,
    count(*) FILTER (WHERE was_considered(s.event_time, w.start, w.refused_from)) AS known_rows,
    count(*) FILTER (WHERE is_left(s.event_time, $past, w.refused_from)) AS left_rows,
    min(s.event_time) FILTER (WHERE is_left(s.event_time, $past, w.refused_from)) AS first_left,
    max(s.event_time) FILTER (WHERE is_left(s.event_time, $past, w.refused_from)) AS last_left
FROM staged AS s
INNER JOIN windows AS w ON s.file = w.file
GROUP BY s.file;

-- name: drop_unconsidered
DELETE FROM staged AS s
USING windows AS w
WHERE
    s.file = w.file
    AND (
        was_considered(s.event_time, w.start, w.refused_from)
        OR is_left(s.event_time, $past, w.refused_from)
    );

-- name: create_broken
CREATE OR REPLACE TEMP TABLE broken (position BIGINT, rule VARCHAR);

-- name: create_refused
-- An unreadable record breaks only the rule record_readable, since it has no columns. undated: the row has no readable
-- time, or a time from $refused_from on, so that its day is unknown.
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

-- name: refused_count
SELECT count(*) AS rows FROM refused;

-- name: broken_counts
SELECT rule, count(*) AS rows FROM (SELECT unnest(rules) AS rule FROM refused) GROUP BY rule ORDER BY rule;

-- name: refused_by_file
-- first_line: line of the first refused row, whose rules are returned; that record may be unreadable.
SELECT
    file,
    count(*) AS refused,
    count(*) FILTER (WHERE undated) AS undated,
    min(line) AS first_line,
    arg_min(rules, line) AS rules,
    arg_min_null(malformed, line) AS malformed
FROM refused
GROUP BY file
ORDER BY file;

-- name: refused_lines
SELECT line FROM refused WHERE file = $file;

-- name: doubtful_ids
-- Ids of staged events that look like absent values ($words).
SELECT what, id, count(*) AS events
FROM (
    SELECT 'user' AS what, user_id AS id
    FROM staged
    WHERE list_contains($words, user_id)
    UNION ALL
    SELECT 'item' AS what, item_id AS id
    FROM staged
    WHERE list_contains($words, item_id)
)
GROUP BY ALL
ORDER BY what, id;

-- name: add_quarantine
-- chunk: line and record of the refused rows of one file; record is a JSON object unless it is malformed.
INSERT INTO quarantine
SELECT
    $batch_id, $kind, $path, r.line, r.rules,
    CASE WHEN r.malformed IS NULL THEN CAST(c.record AS JSON) ELSE to_json(r.malformed) END
FROM chunk AS c
INNER JOIN refused AS r ON c.line = r.line AND r.file = $file;

-- name: drop_staged
DROP TABLE IF EXISTS staged;
