-- batch: the newest one in it, so that what came later can be told.
SELECT
    (SELECT coalesce(sum(events), 0) FROM numbered) AS events,
    (SELECT count(*) FROM numbered) AS users,
    max(event_time) AS newest_event,
    max(batch_id) AS batch
FROM interactions
WHERE event_time < $end_time;
