-- Users who have been forgotten: see hmamba/warehouse/forgotten.py.

-- name: add_salt
INSERT INTO forgotten_salt SELECT $salt WHERE NOT EXISTS (SELECT 1 FROM forgotten_salt);

-- name: count_forgotten
SELECT count(*) AS users FROM forgotten;

-- name: salt
SELECT salt FROM forgotten_salt;

-- name: drop_staged
-- Staged rows of forgotten users, and unreadable records with the id of one among their fields or words.
DELETE FROM staged
WHERE position IN (
    SELECT s.position
    FROM staged AS s
    SEMI JOIN (
        SELECT user_id
        FROM (SELECT DISTINCT user_id FROM staged WHERE user_id IS NOT NULL)
        SEMI JOIN forgotten AS f ON sha256($salt || user_id) = f.user_hash
    ) AS u ON s.user_id = u.user_id
    UNION ALL
    SELECT m.position
    FROM (
        SELECT
            position,
            unnest(
                list_concat(
                    regexp_extract_all(malformed, '[^\s,;|"{}\[\]:]+'),
                    list_transform(regexp_extract_all(malformed, '[^\t,;|"]+'), lambda field: trim(field))
                )
            ) AS word
        FROM staged
        WHERE malformed IS NOT NULL
    ) AS m
    SEMI JOIN forgotten AS f ON sha256($salt || m.word) = f.user_hash
);

-- name: create_erased
-- The users to forget, and what the warehouse holds of them. $users: ids.
CREATE OR REPLACE TEMP TABLE erased AS SELECT DISTINCT unnest(CAST($users AS VARCHAR[])) AS user_id;

-- name: create_erased_rows
-- Refused rows of the users, by their rowid: rows whose column $column is the id, and unreadable records with the id
-- among their fields or words.
CREATE OR REPLACE TEMP TABLE erased_rows AS
SELECT DISTINCT q.rowid AS number, q.batch_id, e.user_id
FROM (
    SELECT
        rowid, batch_id,
        CASE
            WHEN json_type(record) = 'OBJECT' THEN [
                CASE
                    WHEN json_type(record, $column) = 'DOUBLE' THEN regexp_replace(record ->> $column, '\.0+$', '')
                    ELSE regexp_replace(record ->> $column, '^[\s\pZ]+|[\s\pZ]+$', '', 'g')
                END
            ]
            ELSE list_concat(
                regexp_extract_all(record ->> '$', '[^\s,;|"{}\[\]:]+'),
                list_transform(regexp_extract_all(record ->> '$', '[^\t,;|"]+'), lambda field: trim(field))
            )
        END AS words
    FROM quarantine
    WHERE kind = 'interactions'
) AS q
INNER JOIN erased AS e ON list_contains(q.words, e.user_id);

-- name: create_erased_events
CREATE OR REPLACE TEMP TABLE erased_events AS
SELECT user_id, item_id, batch_id, count(*) AS events
FROM interactions SEMI JOIN erased USING (user_id)
GROUP BY user_id, item_id, batch_id;

-- name: add_forgotten
INSERT INTO forgotten
SELECT sha256($salt || user_id), $now, 0, 0
FROM erased
WHERE sha256($salt || user_id) NOT IN (SELECT user_hash FROM forgotten);

-- name: count_erased
UPDATE forgotten
SET events = forgotten.events + c.events, quarantined = forgotten.quarantined + c.quarantined
FROM (
    SELECT
        e.user_id,
        coalesce((SELECT sum(v.events) FROM erased_events AS v WHERE v.user_id = e.user_id), 0) AS events,
        (SELECT count(*) FROM erased_rows AS r WHERE r.user_id = e.user_id) AS quarantined
    FROM erased AS e
) AS c
WHERE forgotten.user_hash = sha256($salt || c.user_id);

-- name: update_batches
UPDATE batches
SET
    rows_loaded = batches.rows_loaded - c.events,
    rows_quarantined = batches.rows_quarantined - c.quarantined,
    rows_forgotten = batches.rows_forgotten + c.events + c.quarantined
FROM (
    SELECT batch_id, CAST(sum(events) AS BIGINT) AS events, CAST(sum(quarantined) AS BIGINT) AS quarantined
    FROM (
        SELECT batch_id, events, 0 AS quarantined FROM erased_events
        UNION ALL
        SELECT batch_id, 0, 1 FROM (SELECT DISTINCT number, batch_id FROM erased_rows)
    )
    GROUP BY batch_id
) AS c
WHERE batches.batch_id = c.batch_id;

-- name: delete_events
DELETE FROM interactions WHERE user_id IN (SELECT user_id FROM erased);

-- name: delete_quarantined
DELETE FROM quarantine WHERE rowid IN (SELECT number FROM erased_rows);

-- name: first_seen
-- The first event of an item may have been one of these; without events left it is NULL, and the item keeps its index.
UPDATE items
SET first_seen = n.first_seen
FROM (
    SELECT t.item_id, min(i.event_time) AS first_seen
    FROM (SELECT DISTINCT item_id FROM erased_events) AS t
    LEFT JOIN interactions AS i ON t.item_id = i.item_id
    GROUP BY t.item_id
) AS n
WHERE items.item_id = n.item_id;

-- name: of_erased
SELECT f.user_hash, f.forgotten_at, f.events, f.quarantined
FROM erased AS e
INNER JOIN forgotten AS f ON sha256($salt || e.user_id) = f.user_hash
ORDER BY f.user_hash;

-- name: attach_fresh
-- DuckDB binds no parameter here: the path replaces the marker, see hmamba/warehouse/rewrite.py.
ATTACH '{path}' AS fresh;

-- name: copy_to_fresh
COPY FROM DATABASE warehouse TO fresh;

-- name: row_counts
SELECT table_name AS name, estimated_size AS rows
FROM duckdb_tables()
WHERE database_name = $database AND NOT temporary
ORDER BY name;

-- name: detach_fresh
DETACH fresh;

-- name: checkpoint
CHECKPOINT;

-- name: add_rewritten_file
-- A landing file without the rows of forgotten users: as the newest entry of its former content.
INSERT INTO batch_files (
    batch_id, kind, path, bytes, modified_ns, sha256, rows, state, rows_left, read_through, refused_from, read_as
)
SELECT
    batch_id, kind, $path, $bytes, $modified_ns, $sha256, 0, state, rows_left, read_through, refused_from, read_as
FROM batch_files
WHERE kind = 'interactions' AND sha256 = $former AND state <> 'duplicate'
QUALIFY row_number() OVER (ORDER BY batch_id DESC) = 1;
