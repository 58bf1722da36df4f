-- chunk: item_id, as a catalogue names it. How far those are the items of the events.
WITH touched AS (SELECT DISTINCT item_id FROM staged WHERE item_id IS NOT NULL)
SELECT
    (SELECT count(*) FROM touched) AS items,
    (SELECT count(*) FROM touched WHERE item_id IN (SELECT item_id FROM chunk)) AS found,
    count(*) AS rows,
    count(DISTINCT item_id) AS ids
FROM chunk;
