-- Of staged rows. $latest: later events are taken for damaged.
SELECT
    count(DISTINCT user_id) AS users,
    count(DISTINCT item_id) AS items,
    min(event_time) AS oldest,
    max(event_time) FILTER (WHERE event_time < $latest) AS newest,
    count(DISTINCT (user_id, item_id, event_time)) AS events,
    count(DISTINCT (user_id, item_id)) AS pairs
FROM staged
WHERE user_id IS NOT NULL AND item_id IS NOT NULL AND event_time IS NOT NULL;
