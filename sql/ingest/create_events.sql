-- One row an event. Of copies inside the batch the largest weight stays: it does not depend on the order of files.
-- What the warehouse already has is never rewritten.
CREATE OR REPLACE TEMP TABLE events AS
SELECT
    g.*,
    EXISTS (
        SELECT 1
        FROM interactions AS i
        WHERE i.user_id = g.user_id AND i.item_id = g.item_id AND i.event_time = g.event_time
    ) AS known
FROM (
    SELECT s.user_id, s.item_id, s.event_time, max(s.weight) AS weight, count(*) AS copies
    FROM staged AS s
    ANTI JOIN refused AS r ON s.position = r.position
    GROUP BY s.user_id, s.item_id, s.event_time
) AS g;
