-- Merge of the events of a pull and their items, one time range after another: see hmamba/warehouse/merge.py.

-- name: create_known
-- Keys of the staged rows whose event is already in the warehouse, with duplicates; interactions has no primary key.
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
-- Figures of a time range of the staged rows. A NULL in $start or $past means unbounded.
SELECT count(*) AS rows, min(s.event_time) AS oldest, max(s.event_time) AS newest
FROM staged AS s
ANTI JOIN refused AS r ON s.position = r.position
WHERE ($start IS NULL OR s.event_time >= $start) AND ($past IS NULL OR s.event_time < $past);

-- name: find_known
-- Rows of a time range whose event is in the warehouse; events are never rewritten. A row without a type, on either side,
-- dates from a time when the source had no type column, and matches events of any type. The warehouse is roughly ordered
-- by time, so that the bounds let DuckDB skip rows outside of the range.
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
-- Insert a time range, one row per event. Of duplicates in the batch, the one with the largest weight is kept, of returns
-- the most negative one, so that the result does not depend on the order of files.
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
-- Only new files count, since a file that grew contains its older rows again by design.
SELECT count(*) AS rows
FROM staged AS s
SEMI JOIN known AS k USING (user_id, item_id, event_time, event_type, is_return)
ANTI JOIN refused AS r ON s.position = r.position
WHERE list_contains($new_files, s.file);

-- name: create_touched
-- Items of the new events, with the time of the first event of each.
CREATE OR REPLACE TEMP TABLE touched AS
SELECT item_id, min(event_time) AS first_seen
FROM interactions
WHERE batch_id = $batch_id
GROUP BY item_id;

-- name: drop_known
DROP TABLE IF EXISTS known;

-- name: add_items
INSERT INTO items (item_id)
SELECT item_id FROM touched AS t
WHERE NOT EXISTS (SELECT 1 FROM items AS i WHERE i.item_id = t.item_id)
ORDER BY item_id;

-- name: count_new
-- Number of items whose first event is in this batch.
SELECT count(*) AS items FROM items SEMI JOIN touched USING (item_id) WHERE first_seen IS NULL;

-- name: first_seen
-- A late event may be older than all known events of its item.
UPDATE items
SET first_seen = t.first_seen
FROM touched AS t
WHERE items.item_id = t.item_id AND (items.first_seen IS NULL OR t.first_seen < items.first_seen);

-- name: index_items
-- Dense indices from 1, in an order that depends only on the data. Items of the catalogue may have an index already.
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
