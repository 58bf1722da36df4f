-- batch: the newest one in it, so that what came later can be told.
SELECT
    count(*) AS events,
    count(DISTINCT user_id) AS users,
    count(DISTINCT item_id) AS items,
    max(event_time) AS newest_event,
    max(batch_id) AS batch
FROM interactions
WHERE event_time < $end_time;
