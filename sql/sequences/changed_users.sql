-- Users with events that a snapshot does not hold: events from its end on ($held_time), and those of batches after its
-- own. new_events: how many of these there are; events: all that such a user has had.
CREATE OR REPLACE TEMP TABLE changed AS
SELECT user_id, any_value(new_events) AS new_events, count(*) AS events
FROM valued($end_time)
INNER JOIN (
    SELECT user_id, count(*) AS new_events
    FROM interactions
    WHERE event_time < $end_time AND (event_time >= $held_time OR batch_id > $held_batch)
    GROUP BY user_id
) USING (user_id)
GROUP BY user_id;
