-- batch: the newest one in it, so that what came later can be told.
SELECT
    (SELECT coalesce(sum(events), 0) FROM counted) AS events,
    (SELECT coalesce(sum(targets), 0) FROM counted) AS targets,
    (SELECT count(*) FROM counted) AS users,
    max(event_time) AS newest_event,
    max(batch_id) AS batch
FROM interactions
WHERE event_time < $end_time;
