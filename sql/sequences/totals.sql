SELECT
    count(*) AS events,
    count(DISTINCT user_id) AS users,
    count(DISTINCT item_id) AS items,
    max(event_time) AS newest_event
FROM interactions
WHERE event_time < $end_time;
