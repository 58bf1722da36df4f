-- What a snapshot does not hold: events from its end on ($held_time), and those of batches after its own.
-- events: all that the users of these have had.
WITH changed AS (
    SELECT user_id
    FROM interactions
    WHERE event_time < $end_time AND (event_time >= $held_time OR batch_id > $held_batch)
)

SELECT
    (SELECT count(*) FROM changed) AS new_events,
    (SELECT count(DISTINCT user_id) FROM changed) AS users,
    (SELECT count(*) FROM interactions AS e SEMI JOIN changed AS c ON e.user_id = c.user_id WHERE e.event_time < $end_time)
        AS events;
