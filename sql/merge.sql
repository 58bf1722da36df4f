-- The events of a pull and their items, a part of the time at a time: see hmamba/warehouse/merge.py.

-- name: create_known
-- Keys of the staged rows whose event the warehouse has already, some of them several times; it has no key to ask.
CREATE OR REPLACE TABLE known (
    user_id VARCHAR,
    item_id VARCHAR,
    event_time TIMESTAMP,
    event_type VARCHAR,
    is_return BOOLEAN
);

-- name: sampled_times
SELECT event_time FROM staged WHERE position % $stride = 0 AND event_time IS NOT NULL ORDER BY event_time;

-- name: part_figures
-- A part of the time of what is staged. $start and $past: NULL leaves a side open.
SELECT count(*) AS rows, min(s.event_time) AS oldest, max(s.event_time) AS newest
FROM staged AS s
ANTI JOIN refused AS r ON s.position = r.position
WHERE ($start IS NULL OR s.event_time >= $start) AND ($past IS NULL OR s.event_time < $past);

-- name: find_known
-- Rows of a part whose event the warehouse has: events are never rewritten. A row without a type, in the warehouse or in the
-- part, is of before or after the source had a column for it, and is an event of any type. The warehouse's rows lie about
-- in the order of time, so that the bounds, those of the part, spare what lies outside of them from being read.
INSERT INTO known
SELECT s.user_id, s.item_id, s.event_time, s.event_type, s.is_return
FROM interactions AS i
INNER JOIN staged AS s
    ON
        i.user_id = s.user_id AND i.item_id = s.item_id AND i.event_time = s.event_time
        AND (i.weight < 0) = s.is_return
WHERE
    i.event_time >= $oldest AND i.event_time <= $newest
    AND s.event_time >= $oldest AND s.event_time <= $newest
    AND (i.event_type = s.event_type OR i.event_type = '' OR s.event_type = '');

-- name: load_events
-- A part of the time, one row an event. Of copies inside the batch the largest weight stays, of returns the most
-- negative: it does not depend on the order of files.
INSERT INTO interactions (user_id, item_id, event_time, event_type, weight, batch_id, loaded_at)
SELECT
    s.user_id,
    s.item_id,
    s.event_time,
    s.event_type,
    CAST(CASE WHEN s.is_return THEN min(s.weight) ELSE max(s.weight) END AS FLOAT),
    $batch_id,
    $loaded_at
FROM staged AS s
ANTI JOIN refused AS r ON s.position = r.position
ANTI JOIN (
    SELECT user_id, item_id, event_time, event_type, is_return
    FROM known
    WHERE event_time >= $oldest AND event_time <= $newest
) AS k USING (user_id, item_id, event_time, event_type, is_return)
WHERE s.event_time >= $oldest AND s.event_time <= $newest
GROUP BY s.user_id, s.item_id, s.event_time, s.event_type, s.is_return
ORDER BY s.event_time, s.user_id, s.item_id, s.event_type, s.is_return;

-- name: known_rows_in_new_files
-- A file that grew repeats its older rows by design: only files never seen before count.
SELECT count(*) AS rows
FROM staged AS s
SEMI JOIN known AS k USING (user_id, item_id, event_time, event_type, is_return)
ANTI JOIN refused AS r ON s.position = r.position
WHERE list_contains($new_files, s.file);

-- name: create_touched
-- Items of the new events.
CREATE OR REPLACE TEMP TABLE touched AS
SELECT item_id, min(event_time) AS first_seen
FROM interactions
WHERE batch_id = $batch_id
GROUP BY item_id;

-- name: drop_known
DROP TABLE IF EXISTS known;

-- name: highest_index
SELECT coalesce(max(item_index), 0) AS item_index FROM items;

-- name: add_items
INSERT INTO items (item_id)
SELECT item_id FROM touched AS t
WHERE NOT EXISTS (SELECT 1 FROM items AS i WHERE i.item_id = t.item_id)
ORDER BY item_id;

-- name: first_seen
-- A late event may be older than any before it.
UPDATE items
SET first_seen = t.first_seen
FROM touched AS t
WHERE items.item_id = t.item_id AND (items.first_seen IS NULL OR t.first_seen < items.first_seen);

-- name: index_items
-- Dense, from 1, in an order that the data alone decides.
UPDATE items
SET item_index = n.item_index
FROM (
    SELECT
        item_id,
        (SELECT coalesce(max(item_index), 0) FROM items)
            + row_number() OVER (ORDER BY first_seen, item_id) AS item_index
    FROM items
    WHERE item_index IS NULL AND first_seen IS NOT NULL
) AS n
WHERE items.item_id = n.item_id;

-- name: new_indices
SELECT count(*) AS items FROM items WHERE item_index > $highest_before;
