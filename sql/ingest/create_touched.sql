-- Items of the new events.
CREATE OR REPLACE TEMP TABLE touched AS
SELECT item_id, min(event_time) AS first_seen
FROM interactions
WHERE batch_id = $batch_id
GROUP BY item_id;
