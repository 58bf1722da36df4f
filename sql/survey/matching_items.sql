-- chunk: item_id. How far a catalogue's column of ids is that of the items sampled.
WITH
    touched AS (SELECT DISTINCT item_id FROM sampled WHERE item_id IS NOT NULL),
    named AS (SELECT regexp_replace(CAST(item_id AS VARCHAR), '^(-?\d+)\.0$', '\1') AS item_id FROM chunk)
SELECT
    (SELECT count(*) FROM touched) AS items,
    (SELECT count(*) FROM touched WHERE item_id IN (SELECT item_id FROM named)) AS found,
    (SELECT count(*) FROM named) AS rows,
    (SELECT count(DISTINCT item_id) FROM named) AS ids;
